"""Figures as pure functions: frames in, a matplotlib ``Figure`` out, or None for empty data.

* :mod:`multirun_analysis.figures.style` gives each series its style, the same in every figure.
* :mod:`multirun_analysis.figures.panels` says which cells make a series and which share a panel.
* :mod:`~multirun_analysis.figures.rho`, :mod:`~multirun_analysis.figures.epochs`,
  :mod:`~multirun_analysis.figures.scatter`, :mod:`~multirun_analysis.figures.effects`,
  :mod:`~multirun_analysis.figures.spectrum` and :mod:`~multirun_analysis.figures.landscape` draw.

Only matplotlib's objects are used: nothing is kept in ``pyplot``, and no display is needed.
"""
