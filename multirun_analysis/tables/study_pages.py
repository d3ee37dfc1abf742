"""Every page of tables of a study, in their order."""

from __future__ import annotations

from collections.abc import Sequence

from multirun_analysis.references import load_reference
from multirun_analysis.runs.measurements import of_largest_eigenvalue, with_numbers
from multirun_analysis.stats.contrasts import curvature_effects
from multirun_analysis.stats.effects import estimate_effects, published_effects
from multirun_analysis.stats.factor import parse_factor
from multirun_analysis.stats.summary import NEEDED, join_measurements, ordered_recipes
from multirun_analysis.study import Study
from multirun_analysis.tables.accuracy_sharpness import (
    ACCURACIES,
    accuracy_page,
    amplified_page,
    measure_pages,
    sgdhess_page,
    sharpness_page,
)
from multirun_analysis.tables.comparison import comparison_page
from multirun_analysis.tables.effects import contrast_page, effects_page, published_page
from multirun_analysis.tables.factor import factor_page
from multirun_analysis.tables.pages import Page
from multirun_analysis.tables.swept import swept_page
from multirun_analysis.tables.verdicts import verdicts_page
from samsweep.config import OUTCOMES, ConfigError

#: What stands for the 2x2 design of direction and magnitude where a factor may be named.
DESIGN = "design"


def study_pages(study: Study) -> list[Page]:
    """What was measured: accuracy, sharpness, SGD beside SGDHESS, amplified share.

    The largest eigenvalue is the page ``sharpness``; of every other quantity that was measured
    there is a page with the name of its measure.
    """
    recipes = ordered_recipes(study.runs)
    joined = join_measurements(study.runs[list(NEEDED)], with_numbers(study.measurements))
    return [
        *(accuracy_page(study.name, study.runs, column) for column in ACCURACIES),
        sharpness_page(study.name, recipes, of_largest_eigenvalue(joined)),
        *measure_pages(study.name, recipes, joined),
        sgdhess_page(study.name, recipes, study.runs, joined),
        amplified_page(study, recipes),
    ]


def effect_pages(study: Study) -> list[Page]:
    """Contrasts, each page where there are any: of hybrids with their verdicts, and of SGDHESS."""
    recipes = ordered_recipes(study.runs)
    curvature = curvature_effects(study.runs, study.measurements)
    effects = study.effects
    return [
        *([] if effects.empty else [verdicts_page(effects), effects_page(effects)]),
        *([] if study.matched.empty else [contrast_page("matched", study.matched, recipes)]),
        *([] if curvature.empty else [contrast_page("sgdhess_effects", curvature, recipes)]),
    ]


def reference_pages(study: Study, reference: str) -> list[Page]:
    """Published numbers beside a study's, and the contrasts that they allow."""
    published = published_effects(load_reference(reference))
    return [comparison_page(study, reference), published_page(published)]


def asked_pages(
    study: Study, rows: Sequence[str], cols: Sequence[str], value: str | None, effects: str | None
) -> list[Page]:
    """The table of the keys that are asked for, and the contrasts of the factor or of the design.

    Raises:
        ConfigError: If the study has no such key, value or level, or no cells of the design.
    """
    if value is not None and not (rows or cols or effects):
        raise ConfigError(
            f"value={value} says what is shown: say of what, rows=KEY, cols=KEY, "
            f"effects=KEY:A,B, effects=KEY:A or effects={DESIGN}."
        )
    pages = [swept_page(study, rows, cols, value or "test_accuracy")] if rows or cols else []
    if effects == DESIGN:
        pages.append(_design_page(study, value))
    elif effects is not None:
        pages.append(factor_page(study, parse_factor(effects, study.runs, study.name), value))
    return pages


def _design_page(study: Study, value: str | None) -> Page:
    """The contrasts of direction and magnitude, of one value or of all outcomes.

    Raises:
        ConfigError: If nothing in the study is called so, or it has no hybrids.
    """
    # Those of the study's outcomes are of families already.
    effects = study.effects
    if value in OUTCOMES:
        effects = effects[effects["outcome"] == value]
    elif value is not None:
        effects = estimate_effects(study.runs, study.measurements, value=value)
    if effects.empty:
        raise ConfigError(
            f"effects={DESIGN}: study {study.name} has no samdirection or sammagnitude cells with "
            "partners: train some, or name a factor, effects=KEY:A,B."
        )
    return effects_page(effects, DESIGN)
