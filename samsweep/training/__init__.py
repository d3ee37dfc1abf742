"""From a run's configuration to a trained, evaluated and measured network.

* :mod:`samsweep.training.cell` takes one cell through its states, from its folder to its record.
* :mod:`samsweep.training.trainer` is the training itself: model, optimizer, steps, epochs.
* :mod:`samsweep.training.checkpoint`, :mod:`~samsweep.system.signals` stop and resume it.
* :mod:`samsweep.training.evaluate`, :mod:`~samsweep.training.diagnostics` evaluate it.
"""
