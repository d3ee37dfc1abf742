"""From a grid to trained cells; free of torch and of Hydra.

* :mod:`samsweep.launch.plan` says what each cell of a grid needs, :mod:`samsweep.launch.cost` what
  that will cost, :mod:`samsweep.launch.report` prints both.
* :mod:`samsweep.launch.slots` divides a machine, :mod:`samsweep.launch.pool` runs cells on it in
  processes (:mod:`samsweep.launch.process`), :mod:`samsweep.launch.display` shows them.
* :mod:`samsweep.launch.manifest` is a launch on disk, :mod:`samsweep.launch.control` stops one and
  takes up what it left.
* :mod:`samsweep.launch.local` puts these together, :mod:`samsweep.launch.whole` takes a plan from
  its telling to the exit status.
* :mod:`samsweep.launch.selection` says which trained cells are meant,
  :mod:`samsweep.launch.measured` shows what was measured of them.
"""
