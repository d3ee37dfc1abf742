"""A launch on this machine: a pool of processes, each bound to a GPU or to a share of the cores."""
