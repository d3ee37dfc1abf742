"""From a grid to the cells that have work to be done; free of torch.

* :mod:`samsweep.launch.plan` says what each cell of a grid needs.
"""
