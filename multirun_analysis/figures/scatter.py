"""Sharpness against accuracy and fit, a point per cell."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from multirun_analysis.figures.panels import (
    Group,
    by_series,
    granularity_groups,
    model_figure,
    models_of,
    share_y,
)
from multirun_analysis.figures.style import (
    GREY,
    MOST_VECTORS,
    Palette,
    add_legend,
    shade,
    styled,
    thinned,
)
from multirun_analysis.wording.numbers import number

_LABELS = {
    "log_lambda_max": "ln λₘₐₓ",
    "test_accuracy": "test accuracy (%)",
    "train_loss": "training loss (nats)",
}


@styled
def scatter(measured: pd.DataFrame, palette: Palette, x: str, y: str) -> Figure | None:
    """Two numbers against each other: models in rows, granularities in columns, a point per cell.

    The cells are of one recipe and measurement, and the numbers keys of ``_LABELS``.

    Returns:
        None where no cell has both numbers.
    """
    points = _points(measured, (x, y))
    if points.empty:
        return None
    groups = granularity_groups(by_series(points)) or [Group("", [], "")]
    models = models_of(points)
    figure, grid = model_figure(models, groups, 2.9, 1.3)
    for model, row in zip(models, grid, strict=True):
        of_model = points[points["model"] == model]
        for group, axes in zip(groups, row, strict=True):
            _draw_panel(axes, group, of_model, palette, (x, y))
        share_y(row, f"{model}\n{_LABELS[y]}" if len(models) > 1 else _LABELS[y], x=True)
        if x == "log_lambda_max":
            _add_eigenvalues(row, of_model[x])
    for axes in grid[-1]:
        axes.set_xlabel(_LABELS[x])
    _legend(figure, points, palette)
    return figure


def _points(measured: pd.DataFrame, columns: tuple[str, str]) -> pd.DataFrame:
    """The complete cells with both numbers, and a positive eigenvalue."""
    sharpness = measured["lambda_max"].to_numpy(float, na_value=np.nan)
    known = np.isfinite(sharpness) & (sharpness > 0)
    for name in set(columns) - {"log_lambda_max"}:
        known &= np.isfinite(measured[name].to_numpy(float, na_value=np.nan))
    rows: pd.DataFrame = measured[known & (measured["status"] == "complete").to_numpy(bool)]
    ranks = rows.groupby(rows["variant"] == "sgdhess")["rho"].rank(method="dense")
    numbers = rows.groupby(rows["variant"] == "sgdhess")["rho"].transform("nunique")
    return rows.assign(
        log_lambda_max=np.log(rows["lambda_max"].astype(float)),
        rank=ranks.fillna(0).astype(int) - 1,
        of=numbers.fillna(0).astype(int),
    )


def _draw_panel(
    axes: Axes, group: Group, points: pd.DataFrame, palette: Palette, columns: tuple[str, str]
) -> None:
    for series, rows in by_series(points).items():
        if series.variant != "sgd" and series not in group.series:
            continue
        style = palette.style(*series)
        for _, cells in rows.groupby("rho", dropna=False):
            rank, of = int(cells["rank"].iloc[0]), int(cells["of"].iloc[0])
            axes.plot(
                *(cells[name].to_numpy(float) for name in columns),
                linestyle="",
                marker=style.marker,
                markersize=5,
                markerfacecolor=shade(style.colour, rank, of) if rank >= 0 else style.colour,
                markeredgecolor=style.colour,
                markeredgewidth=0.5,
                alpha=0.85,
                label=series.label,
                rasterized=len(points) > MOST_VECTORS,
            )


def _add_eigenvalues(row: list[Axes], logs: pd.Series[float]) -> None:
    """λₘₐₓ itself above the panels of a row."""
    subs = (1.0, 2.0, 5.0) if logs.max() - logs.min() < 7 else (1.0,)
    low, high = np.exp(row[0].get_xlim())
    ticks = [t for t in LogLocator(subs=subs, numticks=15).tick_values(low, high)]
    inside = thinned([t for t in ticks if low <= t <= high], 6)
    for axes in row:
        above = axes.secondary_xaxis("top")
        above.xaxis.set_major_locator(FixedLocator([float(np.log(t)) for t in inside]))
        above.xaxis.set_major_formatter(
            FuncFormatter(lambda x, _: number(float(f"{np.exp(x):.3g}")))
        )
        above.xaxis.set_minor_locator(NullLocator())
        above.tick_params(labelsize=7, colors=GREY, length=2)


def _legend(figure: Figure, points: pd.DataFrame, palette: Palette) -> None:
    """A sample per optimizer and one per rho: shape and shade are read apart."""
    shapes: dict[str, Line2D] = {}
    for series in by_series(points):
        style = palette.style(*series)
        shapes[series.optimizer] = Line2D([], [], ls="", marker=style.marker, color=style.colour)
    swept = points[points["rank"] >= 0]
    factor = swept["variant"] == "sgdhess"
    add_legend(figure, shapes, _shades(swept[~factor], "ρ"), _shades(swept[factor], "SGDHESS: ρ"))


def _shades(points: pd.DataFrame, name: str) -> dict[str, Line2D]:
    found = points[["rho", "rank", "of"]].drop_duplicates().sort_values("rho")
    return {
        f"{name} = {number(rho)}": Line2D(
            [],
            [],
            linestyle="",
            marker="o",
            markerfacecolor=shade(GREY, int(rank), int(of)),
            markeredgecolor=GREY,
        )
        for rho, rank, of in found.itertuples(index=False)
    }
