"""From records to tables: what the cells of a study found.

* :mod:`multirun_analysis.load` reads records into tidy DataFrames.
* :mod:`multirun_analysis.tables` turns them into tables, by pure functions.
* :mod:`multirun_analysis.labels` names recipes, optimizers and measurements for people.
* :mod:`multirun_analysis.render` writes tables as Markdown and CSV.
* :mod:`multirun_analysis.references` holds published numbers.

Only ``record.json`` and ``history.jsonl`` are read: no logs are parsed, nothing is unpickled and
nothing found in a run folder is executed. Neither torch nor Hydra is needed.
"""

from multirun_analysis.load import load_history, load_measurements, load_runs
from multirun_analysis.tables import accuracy_table, sharpness_table

__all__ = [
    "accuracy_table",
    "load_history",
    "load_measurements",
    "load_runs",
    "sharpness_table",
]
