"""From records to tables: what the cells of a study found.

* :mod:`multirun_analysis.runs` reads records into tidy frames, a row per cell.
* :mod:`multirun_analysis.stats` averages over seeds and estimates effects with their tests.
* :mod:`multirun_analysis.study` keeps the frames of one study, each made once.
* :mod:`multirun_analysis.tables` lays numbers out and writes Markdown, LaTeX, HTML and CSV.
* :mod:`multirun_analysis.figures` draws them.
* :mod:`multirun_analysis.report` makes one HTML file of everything.
* :mod:`multirun_analysis.wording` writes numbers and names, :mod:`multirun_analysis.references`
  holds published numbers.

A room imports only from those above it in this list (tables and figures not from each other), and
from the last two. Only ``record.json``, ``history.jsonl`` and the manifests of launches are read:
no logs are parsed, nothing is unpickled and nothing found in a run folder is executed. Neither
torch nor Hydra is needed.
"""

from multirun_analysis.runs.load import load_history, load_measurements, load_runs
from multirun_analysis.stats.effects import estimate_effects
from multirun_analysis.study import Study, StudyError, open_study
from multirun_analysis.tables.render import accuracy_markdown
from multirun_analysis.tables.study_pages import study_pages

__all__ = [
    "Study",
    "StudyError",
    "accuracy_markdown",
    "estimate_effects",
    "load_history",
    "load_measurements",
    "load_runs",
    "open_study",
    "study_pages",
]
