"""A launch on a Slurm cluster: arrays of jobs, each a pool over its share of the cells."""
