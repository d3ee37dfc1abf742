"""What a study lacks, and the commands that would train it.

The cells that a study means to have are taken to be a full rectangle per recipe and model: each of
its optimizers at each radius, granularity and seed that any of them has. Radii are shared among the
optimizers that mean the same by them: those of the plain ascent, those of the adaptive one, and
SGDHESS of one curvature, whose rho is a factor.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from multirun_analysis.commands import sweep_commands
from multirun_analysis.effects import EFFECTS, HYBRIDS
from multirun_analysis.labels import optimizer_label
from samsweep.config import (
    VARIANTS,
    AugmentConfig,
    CellConfig,
    DatasetConfig,
    ModelConfig,
    RecipeConfig,
    Variant,
)
from samsweep.records.identity import RESULTS_VERSION, cell_id
from samsweep.records.schema import FINISHED

#: Columns of :func:`missing_cells`.
MISSING_COLUMNS: Mapping[str, str] = {
    "cell_id": "string",
    "study": "string",
    "status": "string",  # of its record; missing where there is none
    "recipe_key": "string",
    "model": "string",
    "optimizer": "string",
    "granularity": "string",
    "rho": "float64",
    "seed": "Int64",
}

_VARIANT = list(Variant.model_fields)
_DATASET = [name for name in DatasetConfig.model_fields if name not in ("name", "augment")]


class _Gap(NamedTuple):
    """A cell without a result."""

    study: str
    recipe_key: str
    status: str
    cell: CellConfig


# --------------------------------------------------------------------------- public


def missing_cells(runs: pd.DataFrame) -> pd.DataFrame:
    """The cells of each recipe's and model's rectangle that lack a result.

    Args:
        runs: Frame of :func:`~multirun_analysis.load.load_runs`.

    Returns:
        :data:`MISSING_COLUMNS`. A diverged cell has a result. Cells trained by code of another
        ``RESULTS_VERSION`` cannot be added to and are left aside.
    """
    rows = [
        {
            "cell_id": cell_id(gap.cell),
            "study": gap.study,
            "status": gap.status,
            "recipe_key": gap.recipe_key,
            "model": gap.cell.model.name,
            "optimizer": optimizer_label(gap.cell.variant.model_dump()),
            "granularity": gap.cell.variant.granularity,
            "rho": gap.cell.variant.rho,
            "seed": gap.cell.seed,
        }
        for gap in _gaps(runs)
    ]
    return pd.DataFrame(rows, columns=list(MISSING_COLUMNS), dtype="object").astype(
        dict(MISSING_COLUMNS)
    )


def fill_commands(runs: pd.DataFrame) -> list[str]:
    """The commands that train the cells of :func:`missing_cells`, and no others.

    Args:
        runs: Frame of :func:`~multirun_analysis.load.load_runs`.
    """
    by_study: dict[str, list[CellConfig]] = {}
    for gap in _gaps(runs):
        by_study.setdefault(gap.study, []).append(gap.cell)
    return [line for study, cells in by_study.items() for line in sweep_commands(cells, study)]


def more_seeds_command(runs: pd.DataFrame, effect: Mapping[Any, Any], more: int) -> str:
    """The command that gives an effect's design more seeds, at all its radii.

    Seeds that were begun and lack a result of the effect's come first, then new ones. Those of the
    design's cells that have a result are skipped when the command runs.

    Args:
        runs: Frame of :func:`~multirun_analysis.load.load_runs`.
        effect: Row of :func:`~multirun_analysis.effects.estimate_effects`.
        more: How many.
    """
    rows = _design_rows(runs, effect)
    variants = _rectangle(_variant(values) for values in _unique(rows, _VARIANT))
    corners = [variant for variant in variants if variant.name in _names(effect)]
    finished = rows[rows["status"].isin(FINISHED)]
    done = {(_variant(row), int(row["seed"])) for row in _plain(finished, [*_VARIANT, "seed"])}
    begun = sorted({int(seed) for seed in rows["seed"]})
    unfinished = [seed for seed in begun if any((c, seed) not in done for c in corners)]
    seeds = [*unfinished, *range(begun[-1] + 1, begun[-1] + 1 + more)][:more]
    make = _maker(rows)
    cells = [make(variant, seed) for variant in variants for seed in seeds]
    (command,) = sweep_commands(cells, rows["study"].iloc[0])
    return command


# --------------------------------------------------------------------------- rectangles


def _gaps(runs: pd.DataFrame) -> Iterator[_Gap]:
    current = runs[runs["results_version"] == RESULTS_VERSION]
    for _, rows in current.groupby(["study", "recipe_key", "model"], sort=False):
        study, recipe_key = rows[["study", "recipe_key"]].iloc[0]
        statuses = {
            (_variant(row), int(row["seed"])): row["status"]
            for row in _plain(rows, [*_VARIANT, "seed", "status"])
        }
        make = _maker(rows)
        variants = _rectangle(variant for variant, _ in statuses)
        seeds = sorted({seed for _, seed in statuses})
        for variant, seed in itertools.product(variants, seeds):
            status = statuses.get((variant, seed), "missing")
            if status not in FINISHED:
                yield _Gap(study, recipe_key, status, make(variant, seed))


def _rectangle(found: Iterable[Variant]) -> list[Variant]:
    """Each optimizer at every radius and granularity of those that share them."""
    variants = list(dict.fromkeys(found))
    kinds = dict.fromkeys(_kind(variant) for variant in variants)
    rectangle: list[Variant] = []
    for kind in kinds:
        sharing = [variant for variant in variants if _shares(variant, kind)]
        rhos = sorted({v.rho for v in sharing if v.rho is not None})
        granularities = sorted({v.granularity for v in sharing if v.granularity is not None})
        rectangle += [
            kind.model_copy(update={"rho": rho, "granularity": granularity})
            for granularity in (granularities if kind.name in HYBRIDS else [None])
            for rho in (rhos if kind.name != "sgd" else [None])
        ]
    return sorted(rectangle, key=lambda variant: VARIANTS.index(variant.name))


def _kind(variant: Variant) -> Variant:
    """An optimizer, whatever its radius and granularity."""
    return variant.model_copy(update={"rho": None, "granularity": None})


def _shares(variant: Variant, kind: Variant) -> bool:
    return (variant.ascent, variant.curvature) == (kind.ascent, kind.curvature)


def _names(effect: Mapping[Any, Any]) -> set[str]:
    """The names of an effect's corners in its design."""
    adaptive = effect["ascent"] == "adaptive"
    corners = EFFECTS[effect["effect"]]
    return {"asam" if adaptive and corner == "sam" else corner for corner in corners}


def _design_rows(runs: pd.DataFrame, effect: Mapping[Any, Any]) -> pd.DataFrame:
    """The runs of all corners of an effect's design, at the radii of its hybrids."""
    rows = runs[(runs["recipe_key"] == effect["recipe_key"]) & (runs["model"] == effect["model"])]
    ascent = (rows["ascent"] == effect["ascent"]) & (
        rows["eta"].isna() if pd.isna(effect["eta"]) else rows["eta"] == effect["eta"]
    )
    hybrid = rows["variant"].isin(HYBRIDS) & ascent
    hybrid &= rows["granularity"] == effect["granularity"]
    radii = rows.loc[hybrid.fillna(False), "rho"].unique()
    sam = rows["variant"].isin(["sam", "asam"]) & ascent & rows["rho"].isin(radii)
    corners = (hybrid | sam | (rows["variant"] == "sgd")).fillna(False)
    found: pd.DataFrame = rows.loc[corners.astype(bool)]
    return found


# --------------------------------------------------------------------------- rows to cells


def _maker(rows: pd.DataFrame) -> Callable[[Variant, int], CellConfig]:
    """What makes cells of the rows' one model and recipe."""
    columns = [*_DATASET, *AugmentConfig.model_fields, *RecipeConfig.model_fields]
    (values,) = _plain(rows.iloc[:1], ["model", "dataset", *columns])
    augment = AugmentConfig(**{name: values[name] for name in AugmentConfig.model_fields})
    of_dataset = {name: values[name] for name in _DATASET}
    return functools.partial(
        _cell,
        ModelConfig(name=values["model"]),
        DatasetConfig(name=values["dataset"], augment=augment, **of_dataset),
        RecipeConfig(**{name: values[name] for name in RecipeConfig.model_fields}),
    )


def _cell(
    model: ModelConfig, dataset: DatasetConfig, recipe: RecipeConfig, variant: Variant, seed: int
) -> CellConfig:
    return CellConfig(model=model, variant=variant, dataset=dataset, recipe=recipe, seed=seed)


def _variant(values: Mapping[str, Any]) -> Variant:
    return Variant(**{name: values[name] for name in _VARIANT})


def _unique(rows: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    return _plain(rows.drop_duplicates([_column(name) for name in columns]), columns)


def _plain(rows: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Rows as plain values, None where a value is not used."""
    taken = rows[[_column(name) for name in columns]].astype("object")
    rows_of_values = taken.where(taken.notna(), None).itertuples(index=False, name=None)
    return [dict(zip(columns, values, strict=True)) for values in rows_of_values]


def _column(name: str) -> str:
    """Where a frame of runs keeps a field of :class:`~samsweep.config.Variant`."""
    return "variant" if name == "name" else name
