"""``python -m samsweep.run``: the command ``samsweep run``.

python -m samsweep.run opt=sam rho=0.1
python -m samsweep.run -m model=resnet18,resnet34 opt=sam,samdirection rho=0.1,0.2,0.4
"""

import sys

from samsweep.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
