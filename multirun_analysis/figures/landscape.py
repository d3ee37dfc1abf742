"""The loss around the weights, along one random direction and over the plane of two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from multirun_analysis.figures.panels import (
    MOST_COLUMNS,
    Cells,
    Panel,
    Row,
    Series,
    by_line,
    draw_line,
    panel_figure,
    panel_legend,
    panel_rows,
    rho_title,
)
from multirun_analysis.figures.style import (
    BLACK,
    VERMILLION,
    WIDTH,
    Palette,
    add_bar,
    log_axis,
    styled,
    thinned,
)
from multirun_analysis.runs.array_measures import Array, Line, Plane
from multirun_analysis.wording.numbers import number

#: Largest by smallest loss beyond which an axis, or the levels of contours, are logarithmic.
_LOGARITHMIC = 20.0
#: Levels of contours, and the largest of them by the smallest.
_LEVELS = 13
_MOST_RATIO = 1e4


# --------------------------------------------------------------------------- along a line


@styled
def loss_along_line(found: pd.DataFrame, palette: Palette) -> Figure | None:
    """The loss along a direction, of one model: a row per granularity, a column per radius.

    Returns:
        None where there is no line.
    """
    cells = by_line(found)
    rows = panel_rows(cells)
    if not rows:
        return None
    figure, grid = panel_figure(rows, 2.1, "α, in filter norms", "loss (nats)")
    for row, line in zip(rows, grid, strict=True):
        for panel, axes in zip(row.panels, line, strict=True):
            _draw_lines(axes, panel, cells, palette)
            axes.tick_params(labelleft=axes is line[0])
    _share_scale([axes for line in grid for axes in line], found)
    panel_legend(figure, rows, palette)
    return figure


def _draw_lines(axes: Axes, panel: Panel, cells: Cells, palette: Palette) -> None:
    for k, (series, rho) in enumerate(panel.lines):
        lines: list[Line] = list(cells[series, rho]["array"])
        # The mean is left open where a seed has no number.
        mean = np.mean([line.losses for line in lines], axis=0)
        style, place = palette.style(*series), (k, len(panel.lines))
        draw_line(axes, lines[0].alphas, mean, style, series.label, place, markers=6)
        for line in lines if len(lines) > 1 else ():
            axes.plot(line.alphas, line.losses, color=style.colour, linewidth=0.6, alpha=0.35)
    axes.axvline(0, color=BLACK, linewidth=0.5, zorder=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))


def _share_scale(panels: Sequence[Axes], found: pd.DataFrame) -> None:
    low, high = _extent([line.losses for line in found["array"]])
    for axes in panels:
        if high > _LOGARITHMIC * low:
            log_axis(axes, low / 1.5, high * 1.5)
        else:
            room = 0.05 * (high - low) or 1.0
            axes.set_ylim(low - room, high + room)


def _extent(losses: Sequence[Array]) -> tuple[float, float]:
    """The smallest loss above zero and the largest one."""
    known = np.concatenate([loss.ravel() for loss in losses])
    known = known[np.isfinite(known) & (known > 0)]
    return (float(known.min()), float(known.max())) if len(known) else (1.0, 1.0)


# --------------------------------------------------------------------------- over a plane


@styled
def loss_over_plane(found: pd.DataFrame) -> Figure | None:
    """Contours of the loss over a plane, of one model: a row per optimizer, a column per rho.

    Each panel is of one network, that of the lowest seed.

    Returns:
        None where there is no plane.
    """
    cells = by_line(found)
    rows = plane_rows(cells)
    if not rows:
        return None
    figure, grid = panel_figure(rows, 1.9, "α", "β")
    figure.set_figwidth(min(WIDTH, 1.8 + 2.0 * max(map(len, grid))))
    keys = [key for row in rows for panel in row.panels for key in panel.lines]
    planes: list[Plane] = [cells[key]["array"].iloc[0] for key in keys]
    levels = contour_levels([plane.losses for plane in planes])
    places = [axes for line in grid for axes in line]
    drawn = [_draw_plane(*place, levels) for place in zip(places, planes, strict=True)]
    _add_bar(figure, grid, drawn[-1], levels)
    return figure


def plane_rows(cells: Cells) -> list[Row]:
    """A row per series, a panel per rho."""
    rhos: dict[Series, list[float]] = {}
    for series, rho in cells:
        rhos.setdefault(series, []).append(rho)
    return [
        Row(
            series.label.replace(", ", "\n"),
            [
                Panel(rho_title(rho), [(series, rho)])
                for rho in thinned(sorted(values), MOST_COLUMNS)
            ],
        )
        for series, values in rhos.items()
    ]


def contour_levels(losses: Sequence[Array]) -> Array:
    """Levels that are the same in several panels.

    They reach from the smallest loss to that below which nine tenths of the numbers are: a few
    corners of a plane, where the loss has no bound, must not take all colours.
    """
    known = np.concatenate([loss[np.isfinite(loss)] for loss in losses])
    low, high = float(known.min()), float(np.quantile(known, 0.9))
    if high > _LOGARITHMIC * low and high > 0:
        return np.geomspace(max(low, high / _MOST_RATIO), high, _LEVELS)
    if high - low < 1e-9 * abs(high) or high == low:
        high = low + max(1.0, abs(low))
    return np.linspace(low, high, _LEVELS)


def _draw_plane(axes: Axes, plane: Plane, levels: Array) -> ContourSet:
    heights, steps = _heights(plane.losses, levels), _heights(levels, levels)
    places = plane.alphas, plane.betas, heights.T
    shades = axes.contourf(*places, levels=steps, cmap="cividis", extend="max")
    axes.contour(*places, levels=steps, colors="white", linewidths=0.3, linestyles="solid")
    axes.plot(
        0, 0, marker="o", markersize=4, color=VERMILLION, markeredgecolor="white",
        markeredgewidth=0.6, label="weights",
    )  # fmt: skip
    axes.set_aspect("equal")
    axes.grid(visible=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(2, min_n_ticks=3))
    axes.tick_params(labelsize=6.5, length=2)
    return shades


def _heights(losses: Array, levels: Array) -> Array:
    """What is drawn: the logarithm where the levels are geometric, with all numbers in sight."""
    known = np.where(np.isfinite(losses), losses, np.inf)
    if not _geometric(levels):
        return np.clip(known, levels[0], 2 * levels[-1] - levels[0])
    return np.asarray(np.log10(np.clip(known, levels[0], 10 * levels[-1])), dtype=np.float64)


def _geometric(levels: Array) -> bool:
    return bool(levels[0] > 0 and levels[-1] > _LOGARITHMIC * levels[0])


def _add_bar(figure: Figure, grid: list[list[Axes]], shades: ContourSet, levels: Array) -> None:
    bar = add_bar(figure, grid, shades, "loss (nats)", 0.8)
    bar.set_ticks([float(step) for step in _heights(levels, levels)[::3]])
    bar.set_ticklabels([number(float(f"{level:.2g}")) for level in levels[::3]])
    bar.minorticks_off()
