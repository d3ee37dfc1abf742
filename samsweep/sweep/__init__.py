"""From a grid to trained cells; free of torch and of Hydra.

* :mod:`~samsweep.sweep.plan` says what each cell of a grid needs, :mod:`~samsweep.sweep.estimate`
  what that will cost, :mod:`~samsweep.sweep.plan_table` prints both.
* :mod:`~samsweep.sweep.execute` takes a plan to the exit status, with a runner:
  :mod:`~samsweep.sweep.local` on this machine, :mod:`~samsweep.sweep.slurm` on a cluster.
* :mod:`~samsweep.sweep.manifest` is a launch on disk, :mod:`~samsweep.sweep.display` its
  progress, :mod:`~samsweep.sweep.names` what its cells are called there.
* :mod:`~samsweep.sweep.cancel` stops a launch, :mod:`~samsweep.sweep.retry` runs again what failed
  or was stopped.
"""
