"""From records to tables: what the cells of a study found.

* :mod:`multirun_analysis.load` reads records into tidy DataFrames, with the columns of
  :mod:`multirun_analysis.columns`; :mod:`multirun_analysis.study` keeps those of one study.
* :mod:`multirun_analysis.summary` has the arithmetic over seeds, :mod:`multirun_analysis.tables`
  lays it out, :mod:`multirun_analysis.comparison` sets published numbers beside it
  (:mod:`multirun_analysis.references` holds them).
* :mod:`multirun_analysis.effects` estimates the effects of direction and magnitude by
  :mod:`multirun_analysis.statistics`, :mod:`multirun_analysis.conclusions` says what they allow to
  say, :mod:`multirun_analysis.gaps` which commands train what a study lacks.
* :mod:`multirun_analysis.gallery` draws the figures (:mod:`multirun_analysis.figures`), those of
  spectra and landscapes from :mod:`multirun_analysis.arrays`;
  :mod:`multirun_analysis.report` lays everything out as one HTML file.
* :mod:`multirun_analysis.formats` turns pages of tables into Markdown, LaTeX, HTML and CSV,
  :mod:`multirun_analysis.export` writes the frames themselves.
* :mod:`multirun_analysis.labels` names recipes, optimizers and measurements for people,
  :mod:`multirun_analysis.measures` says what each measure of sharpness is.

Only ``record.json`` and ``history.jsonl`` are read: no logs are parsed, nothing is unpickled and
nothing found in a run folder is executed. Neither torch nor Hydra is needed.
"""

from multirun_analysis.effects import estimate_effects
from multirun_analysis.load import load_history, load_measurements, load_runs
from multirun_analysis.study import Study, StudyError, open_study
from multirun_analysis.tables import accuracy_table, sharpness_table, study_pages

__all__ = [
    "Study",
    "StudyError",
    "accuracy_table",
    "estimate_effects",
    "load_history",
    "load_measurements",
    "load_runs",
    "open_study",
    "sharpness_table",
    "study_pages",
]
