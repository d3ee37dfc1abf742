"""Which cells make a series, and which series share a panel."""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

import pandas as pd

from multirun_analysis.wording.labels import ranking
from samsweep.config import MODELS, VARIANTS, Granularity

#: The perturbation's radius, and SGDHESS's factor of curvature: different things on one axis.
RADIUS, FACTOR = "ρ, radius of the perturbation", "ρ, factor of the curvature"


class Series(NamedTuple):
    """The cells of one line: everything is equal but rho and seed."""

    optimizer: str
    variant: str
    granularity: str | None

    @property
    def label(self) -> str:
        """Name in a legend."""
        return f"{self.optimizer}, {self.granularity}" if self.granularity else self.optimizer


class Panel(NamedTuple):
    """Series that stand beside each other."""

    title: str
    series: list[Series]
    x_label: str


def series_of(row: pd.Series[Any]) -> Series:
    """The series of a row of cells, or of a summary of them."""
    granularity = row["granularity"]
    return Series(
        str(row["optimizer"]),
        str(row["variant"]),
        granularity if isinstance(granularity, str) else None,
    )


def all_series(rows: pd.DataFrame) -> list[Series]:
    """Every series of a frame, in the order of the registries."""
    return list(by_series(rows))


def by_series(rows: pd.DataFrame) -> dict[Series, pd.DataFrame]:
    """The rows of each series, in the order of the registries."""
    names = ["optimizer", "variant", "granularity"]
    groups = rows.groupby(names, dropna=False, sort=False)
    found = {series_of(group.iloc[0]): group for _, group in groups}
    return {series: found[series] for series in sorted(found, key=_order)}


def _order(series: Series) -> tuple[int, str, int]:
    return (
        ranking(VARIANTS)(series.variant),
        series.optimizer,
        -1 if series.granularity is None else ranking(get_args(Granularity))(series.granularity),
    )


def granularity_panels(series: list[Series]) -> list[Panel]:
    """A panel per granularity, with the optimizers that have none in each; SGDHESS apart.

    Args:
        series: Of one recipe, SGD left out.
    """
    radius = [one for one in series if one.variant not in ("sgd", "sgdhess")]
    factor = [one for one in series if one.variant == "sgdhess"]
    levels = [g for g in get_args(Granularity) if any(one.granularity == g for one in radius)]
    panels = [
        Panel(
            f"by {level}" if level != "global" else "over the whole gradient",
            [one for one in radius if one.granularity in (None, level)],
            RADIUS,
        )
        for level in levels
    ]
    if radius and not levels:
        panels = [Panel("", radius, RADIUS)]
    if factor:
        panels.append(Panel("curvature in place of a perturbation", factor, FACTOR))
    return panels


def models_of(rows: pd.DataFrame) -> list[str]:
    """The models of a frame, in the order of the registry."""
    found = {str(model) for model in rows["model"].dropna()}
    return sorted(found, key=lambda model: (ranking(MODELS)(model), model))
