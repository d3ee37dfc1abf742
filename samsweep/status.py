"""``python -m samsweep.status``: the command ``samsweep status``.

python -m samsweep.status study=default
python -m samsweep.status study=default --watch
python -m samsweep.status study=default --retry
"""

import sys

from samsweep.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("status", sys.argv[1:]))
