"""samsweep: sweeps over optimizers that ask what Sharpness-Aware Minimization owes its flatness to.

Start at :mod:`samsweep.run` (the command), :mod:`samsweep.optim` (the optimizers, usable in any
training loop) or :mod:`samsweep.sharpness` (the measures of flatness).
"""

__version__ = "0.1.0"
