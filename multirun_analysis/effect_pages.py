"""Pages of effects: those of a study, and those that published numbers allow."""

from __future__ import annotations

from multirun_analysis.comparison import comparison_page
from multirun_analysis.conclusions import conclusions_page
from multirun_analysis.effect_tables import effects_page, published_page
from multirun_analysis.effects import published_effects
from multirun_analysis.pages import Page
from multirun_analysis.references import load_reference
from multirun_analysis.study import Study


def effect_pages(study: Study) -> list[Page]:
    """The contrasts of a study, and what they allow to say; none without hybrids.

    Args:
        study: The study.
    """
    if study.effects.empty:
        return []
    return [effects_page(study.effects), conclusions_page(study.conclusions)]


def reference_pages(study: Study, reference: str) -> list[Page]:
    """Published numbers beside a study's, and the contrasts that they allow.

    Args:
        study: The study.
        reference: One of :func:`~multirun_analysis.references.references`.
    """
    published = published_effects(load_reference(reference))
    return [comparison_page(study, reference), published_page(published)]
