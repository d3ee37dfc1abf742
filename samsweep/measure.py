"""``python -m samsweep.measure``: the command ``samsweep measure``.

python -m samsweep.measure study=demo sharpness=full
python -m samsweep.measure study=demo sharpness=top5 model=resnet8 opt=sam rho=0.1,0.2 seed=0
"""

import sys

from samsweep.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["measure", *sys.argv[1:]]))
