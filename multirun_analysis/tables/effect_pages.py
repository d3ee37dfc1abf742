"""Pages of effects: those of a study, and those that published numbers allow."""

from __future__ import annotations

from multirun_analysis.references import load_reference
from multirun_analysis.stats.curvature import curvature_effects
from multirun_analysis.stats.effects import published_effects
from multirun_analysis.study import Study
from multirun_analysis.tables.comparison import comparison_page
from multirun_analysis.tables.effect_tables import (
    curvature_page,
    effects_page,
    matched_page,
    published_page,
)
from multirun_analysis.tables.pages import Page
from multirun_analysis.tables.verdicts import conclusions, conclusions_page
from multirun_analysis.wording.labels import recipe_titles


def effect_pages(study: Study) -> list[Page]:
    """The contrasts of a study, each page where there are any: of hybrids, and of SGDHESS.

    Args:
        study: The study.
    """
    recipes = recipe_titles(study.runs)
    curvature = curvature_effects(study.runs, study.measurements)
    return [
        *([] if study.effects.empty else [effects_page(study.effects)]),
        *([] if study.matched.empty else [matched_page(study.matched, recipes)]),
        *([] if curvature.empty else [curvature_page(curvature, recipes)]),
    ]


def conclusion_pages(study: Study) -> list[Page]:
    """What the contrasts allow to say; none without hybrids.

    Args:
        study: The study.
    """
    return [] if study.effects.empty else [conclusions_page(conclusions(study.effects, study.runs))]


def reference_pages(study: Study, reference: str) -> list[Page]:
    """Published numbers beside a study's, and the contrasts that they allow.

    Args:
        study: The study.
        reference: One of :func:`.references`.
    """
    published = published_effects(load_reference(reference))
    return [comparison_page(study, reference), published_page(published)]
