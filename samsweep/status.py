"""``python -m samsweep.status``: the command ``samsweep status``.

python -m samsweep.status study=default
python -m samsweep.status study=default --watch
python -m samsweep.status study=default --retry
"""

import sys

from samsweep.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["status", *sys.argv[1:]]))
