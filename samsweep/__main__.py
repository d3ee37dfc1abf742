"""``python -m samsweep``: the command ``samsweep``."""

import sys

from samsweep.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
