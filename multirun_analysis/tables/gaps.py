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
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from multirun_analysis.stats.effects import EFFECTS, HYBRIDS
from multirun_analysis.tables.commands import sweep_commands
from multirun_analysis.wording.labels import optimizer_label
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

#: Fields of a variant, the first of which is its name.
_VARIANT = list(Variant.model_fields)
_DATASET = [name for name in DatasetConfig.model_fields if name not in ("name", "augment")]


@dataclass(frozen=True, kw_only=True)
class Block:
    """The cells of one recipe and model.

    Args:
        study: Whose cells they are.
        recipe_key: Of the training recipe.
        make: Makes the cell of a variant and a seed.
        statuses: Of the cells that have a record.
    """

    study: str
    recipe_key: str
    make: Callable[[Variant, int], CellConfig]
    statuses: Mapping[tuple[Variant, int], str]

    @property
    def variants(self) -> list[Variant]:
        """Each variant that has a record, once."""
        return list(dict.fromkeys(variant for variant, _ in self.statuses))

    def finished(self, variant: Variant, seed: int) -> bool:
        """Whether a cell has a result."""
        return self.statuses.get((variant, seed)) in FINISHED


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
        runs: Frame of :func:`.load_runs`.

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
        runs: Frame of :func:`.load_runs`.
    """
    by_study: dict[str, list[CellConfig]] = {}
    for gap in _gaps(runs):
        by_study.setdefault(gap.study, []).append(gap.cell)
    return [line for study, cells in by_study.items() for line in sweep_commands(cells, study)]


def more_seeds_command(block: Block, effect: Mapping[Any, Any], more: int) -> str:
    """The command that gives an effect's design more seeds, at all its radii.

    Seeds that were begun and lack a result of the effect's come first, then new ones. Those of the
    design's cells that have a result are skipped when the command runs.

    Args:
        block: The one of :func:`blocks` that is of the effect's recipe and model.
        effect: Row of :func:`.estimate_effects`.
        more: How many.
    """
    design = _rectangle(_design(block.variants, effect))
    corners = [variant for variant in design if variant.name in _names(effect)]
    begun = sorted({seed for variant, seed in block.statuses if variant in set(design)})
    unfinished = [s for s in begun if not all(block.finished(corner, s) for corner in corners)]
    seeds = [*unfinished, *range(begun[-1] + 1, begun[-1] + 1 + more)][:more]
    cells = [block.make(variant, seed) for variant in design for seed in seeds]
    (command,) = sweep_commands(cells, block.study)
    return command


def blocks(runs: pd.DataFrame) -> dict[tuple[str, str], Block]:
    """The cells of a study by ``recipe_key`` and model.

    Args:
        runs: Frame of :func:`.load_runs`, of one study.
    """
    groups = runs.groupby(["recipe_key", "model"], sort=False)
    return {(str(recipe), str(model)): _block(rows) for (recipe, model), rows in groups}


# --------------------------------------------------------------------------- rectangles


def _gaps(runs: pd.DataFrame) -> Iterator[_Gap]:
    current = runs[runs["results_version"] == RESULTS_VERSION]
    for block in blocks(current).values():
        seeds = sorted({seed for _, seed in block.statuses})
        for variant, seed in itertools.product(_rectangle(block.variants), seeds):
            if not block.finished(variant, seed):
                status = block.statuses.get((variant, seed), "missing")
                yield _Gap(block.study, block.recipe_key, status, block.make(variant, seed))


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


def _design(variants: Sequence[Variant], effect: Mapping[Any, Any]) -> list[Variant]:
    """The corners of an effect's design, at the radii of its hybrids."""
    names = ("ascent", "eta", "scaled")
    wanted = [None if pd.isna(effect[name]) else effect[name] for name in names]
    ours = [v for v in variants if [getattr(v, name) for name in names] == wanted]
    hybrids = [v for v in ours if v.granularity == effect["granularity"]]
    radii = {hybrid.rho for hybrid in hybrids}
    sams = [v for v in ours if v.granularity is None and v.rho in radii]
    return [*(v for v in variants if v.name == "sgd"), *sams, *hybrids]


# --------------------------------------------------------------------------- rows to cells


def _block(rows: pd.DataFrame) -> Block:
    columns = [*_DATASET, *AugmentConfig.model_fields, *RecipeConfig.model_fields]
    columns += ["study", "recipe_key", "model", "dataset"]
    (row,) = _plain(rows.iloc[:1], columns)
    values = dict(zip(columns, row, strict=True))
    augment = AugmentConfig(**{name: values[name] for name in AugmentConfig.model_fields})
    of_dataset = {name: values[name] for name in _DATASET}
    return Block(
        study=values["study"],
        recipe_key=values["recipe_key"],
        make=functools.partial(
            _cell,
            ModelConfig(name=values["model"]),
            DatasetConfig(name=values["dataset"], augment=augment, **of_dataset),
            RecipeConfig(**{name: values[name] for name in RecipeConfig.model_fields}),
        ),
        statuses={
            (_variant(*values), seed): status
            for *values, seed, status in _plain(rows, ["variant", *_VARIANT[1:], "seed", "status"])
        },
    )


def _cell(
    model: ModelConfig, dataset: DatasetConfig, recipe: RecipeConfig, variant: Variant, seed: int
) -> CellConfig:
    return CellConfig(model=model, variant=variant, dataset=dataset, recipe=recipe, seed=seed)


@functools.cache
def _variant(*values: Any) -> Variant:
    return Variant(**dict(zip(_VARIANT, values, strict=True)))


def _plain(rows: pd.DataFrame, columns: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    """Rows as plain values, None where a value is not used."""
    taken = rows[list(columns)].astype("object")
    return taken.where(taken.notna(), None).itertuples(index=False, name=None)
