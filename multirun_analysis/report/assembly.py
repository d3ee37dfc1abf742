"""Everything about a study as one report: what goes into it, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from multirun_analysis.figures.captions import Picture
from multirun_analysis.report.page import Report, design, provenance, question
from multirun_analysis.runs.reading import read_records
from multirun_analysis.study import Study
from multirun_analysis.tables.effect_pages import conclusion_pages, effect_pages
from multirun_analysis.tables.gaps import fill_commands
from multirun_analysis.tables.pages import Page
from multirun_analysis.tables.results import study_pages
from multirun_analysis.tables.verdicts import answer


def study_report(study: Study, pictures: Mapping[str, Picture], extra: Sequence[Page]) -> Report:
    """Everything about a study as one report.

    Args:
        study: The study.
        pictures: Of :func:`.draw_figures`.
        extra: Further pages, such as those beside published numbers.
    """
    return Report(
        study=study.name,
        design=design(study.runs),
        question=question(study.runs),
        provenance=provenance(study.runs, study.measurements, read_records(study.folder, [])),
        pages=(*study_pages(study), *extra),
        pictures=tuple(pictures.values()),
        effects=effect_pages(study),
        conclusions=answer(study),
        conclusion_pages=conclusion_pages(study),
        gaps=fill_commands(study.runs),
        skipped=study.problems,
    )
