"""Which cells make a series, and which series stand beside each other in the panels of a figure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import NamedTuple, get_args

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from multirun_analysis.figures.style import (
    Palette,
    SeriesStyle,
    add_legend,
    handle,
    new_figure,
    thinned,
)
from multirun_analysis.runs.array_measures import Array
from multirun_analysis.wording.labels import ranking
from multirun_analysis.wording.numbers import number
from samsweep.config import MODELS, VARIANTS, Granularity

#: The perturbation's radius, and SGDHESS's factor of curvature: different things on one axis.
RADIUS, FACTOR = "ρ, radius of the perturbation", "ρ, factor of the curvature"

#: Radii, or factors, that are drawn beside each other; of more, an even choice.
MOST_COLUMNS = 5

#: In place of SGD's rho: NaN is not equal to itself.
NO_RHO = -1.0


class Series(NamedTuple):
    """The cells of one line: everything is equal but rho and seed."""

    optimizer: str
    variant: str
    granularity: str | None

    @property
    def label(self) -> str:
        """Name in a legend."""
        return f"{self.optimizer}, {self.granularity}" if self.granularity else self.optimizer


#: The cells of one series at one rho, a row each.
Cells = Mapping[tuple[Series, float], pd.DataFrame]


# --------------------------------------------------------------------------- series


def by_series(rows: pd.DataFrame) -> dict[Series, pd.DataFrame]:
    """The rows of each series, in the order of the registries."""
    found = {}
    for key, group in rows.groupby(
        ["optimizer", "variant", "granularity"], dropna=False, sort=False
    ):
        optimizer, variant, granularity = key
        level = granularity if isinstance(granularity, str) else None
        found[Series(str(optimizer), str(variant), level)] = group
    return {series: found[series] for series in sorted(found, key=_order)}


def _order(series: Series) -> tuple[int, str, int]:
    granularity = series.granularity
    return (
        ranking(VARIANTS)(series.variant),
        series.optimizer,
        -1 if granularity is None else ranking(get_args(Granularity))(granularity),
    )


def by_line(rows: pd.DataFrame, *order: str) -> dict[tuple[Series, float], pd.DataFrame]:
    """The rows of each series at each rho, in the order of some columns, of seeds by default."""
    return {
        (series, float(rho)): cells.sort_values([*order] or ["seed", "cell_id"])
        for series, of_series in by_series(rows).items()
        for rho, cells in of_series.groupby(of_series["rho"].astype(float).fillna(NO_RHO))
    }


def models_of(rows: pd.DataFrame) -> list[str]:
    """The models of a frame, in the order of the registry."""
    found = {str(model) for model in rows["model"].dropna()}
    return sorted(found, key=lambda model: (ranking(MODELS)(model), model))


# --------------------------------------------------------------------------- a column per group


class Group(NamedTuple):
    """Series that stand beside each other: of one granularity, or those of SGDHESS."""

    title: str
    series: list[Series]
    x_label: str


def granularity_groups(series: Iterable[Series]) -> list[Group]:
    """A group per granularity, with the optimizers that have none in each; SGDHESS apart."""
    known = list(series)
    radius = [one for one in known if one.variant not in ("sgd", "sgdhess")]
    factor = [one for one in known if one.variant == "sgdhess"]
    levels = [g for g in get_args(Granularity) if any(one.granularity == g for one in radius)]
    groups = [
        Group(
            f"by {level}" if level != "global" else "over the whole gradient",
            [one for one in radius if one.granularity in (None, level)],
            RADIUS,
        )
        for level in levels
    ]
    if radius and not levels:
        groups = [Group("", radius, RADIUS)]
    if factor:
        groups.append(Group("curvature in place of a perturbation", factor, FACTOR))
    return groups


def model_figure(
    models: list[str], groups: list[Group], row_height: float, extra: float = 1.0
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a row of panels per model and a column per group."""
    figure, grid = new_figure(len(models), len(groups), row_height=row_height, extra=extra)
    for group, axes in zip(groups, grid[0], strict=True):
        axes.set_title(group.title)
    return figure, grid


# --------------------------------------------------------------------------- a row per group


class Panel(NamedTuple):
    """What one panel shows."""

    title: str
    lines: list[tuple[Series, float]]


class Row(NamedTuple):
    """The panels of one granularity, or of the factors of SGDHESS."""

    title: str
    panels: list[Panel]


def panel_rows(cells: Cells) -> list[Row]:
    """Rows of panels: a row per granularity and one of SGDHESS, a panel per rho, SGD in each."""
    sgd = [(series, rho) for series, rho in cells if series.variant == "sgd"]
    rows = []
    for group in granularity_groups(dict.fromkeys(series for series, _ in cells)):
        lines = [(series, rho) for series, rho in cells if series in group.series]
        panels = [
            Panel(rho_title(rho), [*sgd, *(line for line in lines if line[1] == rho)])
            for rho in thinned(sorted({rho for _, rho in lines}), MOST_COLUMNS)
        ]
        rows.append(Row(group.title, panels))
    return rows or [Row("", [Panel("", sgd)])] * bool(sgd)


def rhos_left_out(rows: Iterable[Row], cells: Cells) -> list[float]:
    """The rhos of :func:`by_line` that have no panel, since there are too many."""
    drawn = {line for row in rows for panel in row.panels for line in panel.lines}
    return sorted({rho for _, rho in cells.keys() - drawn})


def rho_title(rho: float) -> str:
    """Of the panel of one rho; empty for what has none."""
    return "" if rho == NO_RHO else f"ρ = {number(rho)}"


def panel_figure(
    rows: list[Row], row_height: float, x_label: str, y_label: str
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with an axes per panel; the places without a panel stay empty.

    The labels stand below the lowest panel of each column, and after each row's title. The height
    of a row is in inches.
    """
    columns = max(len(row.panels) for row in rows)
    figure, grid = new_figure(len(rows), columns, row_height=row_height)
    used = [line[: len(row.panels)] for row, line in zip(rows, grid, strict=True)]
    for row, line, places in zip(rows, used, grid, strict=True):
        for axes in places[len(line) :]:
            axes.set_axis_off()
        for panel, axes in zip(row.panels, line, strict=True):
            axes.set_title(panel.title)
        title = [textwrap.fill(part, 20) for part in row.title.split("\n")]
        line[0].set_ylabel("\n".join(filter(None, [*title, y_label])))
    for column in range(columns):
        [line[column] for line in used if len(line) > column][-1].set_xlabel(x_label)
    figure.align_ylabels([line[0] for line in used])
    return figure, used


def panel_legend(figure: Figure, rows: Iterable[Row], palette: Palette) -> None:
    """A sample of each series' line."""
    lines = [line for row in rows for panel in row.panels for line in panel.lines]
    drawn = dict.fromkeys(series for series, _ in lines)
    add_legend(figure, {one.label: handle(palette.style(*one)) for one in drawn})


# --------------------------------------------------------------------------- lines and scales


def draw_line(
    axes: Axes,
    x: Array,
    y: Array,
    style: SeriesStyle,
    label: str,
    place: tuple[int, int],
    markers: int,
) -> None:
    """A line through points, with about so many markers.

    They do not stand where the other lines of the panel have theirs: ``place`` is the line's number
    in it, and of how many.
    """
    step, (k, of) = max(1, len(x) // markers), place
    axes.plot(
        x,
        y,
        markevery=(k * step // max(1, of), step),
        linewidth=1.1,
        label=label,
        zorder=3,
        **style.line_style,
        **{**style.marker_style, "markersize": 3.6, "markeredgewidth": 0.8},
    )


def share_y(line: list[Axes], label: str, *, x: bool = False) -> None:
    """One scale for the panels of a row, named at the first: of y, and of x where asked for."""
    first, *others = line
    for axes in others:
        axes.sharey(first)
        if x:
            axes.sharex(first)
        axes.tick_params(labelleft=False)
    first.autoscale(axis="both" if x else "y")
    first.set_ylabel(label)
