"""An outcome against rho: every seed, mean and sd, and SGD as a reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation, Transform

from multirun_analysis.figures.panels import (
    Group,
    Series,
    by_series,
    granularity_groups,
    model_figure,
    models_of,
)
from multirun_analysis.figures.style import (
    GREY,
    MOST_VECTORS,
    Palette,
    SeriesStyle,
    add_legend,
    handle,
    log_axis,
    rho_axis,
    styled,
)
from multirun_analysis.stats.summary import num_lost, summarize

#: Points at most between two series at one rho.
_DODGE = 9.0


Rows = Mapping[Series, pd.DataFrame]


class Outcome(NamedTuple):
    """A number of each cell."""

    column: str
    label: str
    log: bool = False


TEST_ACCURACY = Outcome("test_accuracy", "test accuracy (%)")
BEST_TEST_ACCURACY = Outcome("best_test_accuracy", "test accuracy at best validation (%)")
SHARPNESS = Outcome("lambda_max", "largest Hessian\neigenvalue λₘₐₓ", log=True)


@styled
def against_rho(runs: pd.DataFrame, outcome: Outcome, palette: Palette) -> Figure | None:
    """An outcome against rho: models in rows, granularities in columns.

    Returns:
        None where no cell with a rho has a value.
    """
    summary = summarize(runs, outcome.column)
    if outcome.log:
        summary["mean"] = summary["mean"].where(summary["mean"] > 0)
    drawn = summary[summary["mean"].notna()]
    groups = granularity_groups(by_series(drawn[drawn["rho"].notna()]))
    if not groups:
        return None
    models = models_of(drawn)
    figure, grid = model_figure(models, groups, 2.6)
    for model, row in zip(models, grid, strict=True):
        means = by_series(summary[summary["model"] == model])
        seeds = by_series(runs[(runs["model"] == model) & (runs["status"] == "complete")])
        for group, axes in zip(groups, row, strict=True):
            _draw_panel(axes, group, means, seeds, outcome, palette)
        _share_y(row, outcome, model if len(models) > 1 else "", _extent(means, seeds, outcome))
    _legend(figure, groups, summary, palette)
    return figure


def _draw_panel(
    axes: Axes,
    group: Group,
    means: Rows,
    seeds: Rows,
    outcome: Outcome,
    palette: Palette,
) -> None:
    for series, rows in means.items():
        if series.variant == "sgd":
            values = _values(seeds[series], outcome) if series in seeds else np.array([])
            _draw_reference(axes, palette.style(*series), rows, values)
    here = [series for series in group.series if series in means]
    rhos = sorted({rho for series in here for rho in means[series]["rho"]}) or [0.1]
    step = _dodge(axes, len(here), len(rhos))
    for k, series in enumerate(here):
        dodge = (k - (len(here) - 1) / 2) * step
        _draw_means(axes, series.label, palette.style(*series), means[series], dodge)
        if series in seeds:
            places, values = seeds[series]["rho"].to_numpy(float), _values(seeds[series], outcome)
            shifted = _shifted(axes, dodge - 0.4 * step)
            style = palette.style(*series)
            _draw_seeds(axes, style, places, values, shifted, markersize=3.4, zorder=2)
    rho_axis(axes, rhos, group.x_label)


def _dodge(axes: Axes, series: int, rhos: int) -> float:
    """Points between two series at one rho, so that all stay nearer to it than to the next."""
    width = 72 * axes.bbox.width / axes.figure.dpi
    return min(_DODGE, 0.7 * width / ((rhos + 1) * max(1, series)))


def _draw_reference(
    axes: Axes, style: SeriesStyle, means: pd.DataFrame, values: np.ndarray
) -> None:
    """SGD: a line at the mean, a band of one sd, and its seeds at the left edge."""
    for mean, sd in means[["mean", "sd"]].dropna(subset="mean").to_numpy(float):
        axes.axhline(mean, **style.line_style, zorder=1.5)
        if np.isfinite(sd):
            axes.axhspan(mean - sd, mean + sd, color=GREY, alpha=0.15, lw=0, zorder=0.5)
    places = np.full(len(values), 0.02)
    _draw_seeds(axes, style, places, values, axes.get_yaxis_transform(), markersize=3.8)


def _draw_seeds(
    axes: Axes,
    style: SeriesStyle,
    x: np.ndarray,
    y: np.ndarray,
    transform: Transform,
    **options: Any,
) -> None:
    """Faint points."""
    axes.plot(
        x,
        y,
        transform=transform,
        linestyle="",
        marker=style.marker,
        color=style.colour,
        markeredgewidth=0,
        alpha=0.45,
        rasterized=len(y) > MOST_VECTORS,
        **options,
    )


def _draw_means(
    axes: Axes, label: str, style: SeriesStyle, means: pd.DataFrame, dodge: float
) -> None:
    """Mean and sd, and a cross at the foot of the panel where seeds were lost."""
    found = means[means["mean"].notna()].sort_values("rho")
    axes.errorbar(
        found["rho"].to_numpy(float),
        found["mean"].to_numpy(float),
        yerr=found["sd"].fillna(0).to_numpy(float),
        transform=_shifted(axes, dodge),
        elinewidth=1.0,
        capsize=2.0,
        zorder=3,
        label=label,
        **style.line_style,
        **style.marker_style,
    )
    lost = means[num_lost(means) > 0]
    if len(lost):
        axes.plot(
            lost["rho"].to_numpy(float),
            np.full(len(lost), 0.03),
            transform=_shifted(axes, dodge, axes.get_xaxis_transform()),
            linestyle="",
            marker="x",
            color=style.colour,
            markersize=4.5,
        )


def _shifted(axes: Axes, points: float, place: Transform | None = None) -> Transform:
    """A place that is some points to the right, whatever the scale of the axis."""
    shift = ScaledTranslation(points / 72, 0, axes.figure.dpi_scale_trans)
    return (place or axes.transData) + shift


def _values(cells: pd.DataFrame, outcome: Outcome) -> np.ndarray:
    """The values of cells, NaN for what the axis cannot show."""
    values = cells[outcome.column].to_numpy(float)
    return np.where(_shown(values, outcome), values, np.nan)


def _shown(values: np.ndarray, outcome: Outcome) -> np.ndarray:
    """Whether the axis can show a number."""
    return np.asarray(np.isfinite(values) & ((values > 0) | (not outcome.log)))


def _extent(means: Rows, seeds: Rows, outcome: Outcome) -> tuple[float, float]:
    """The smallest and the largest number to be seen, sd included, as far as the axis shows it."""
    rows = pd.concat(means.values())
    mean, sd = rows["mean"].to_numpy(float), rows["sd"].fillna(0).to_numpy(float)
    # On a logarithmic axis a bar may reach down to zero: the seeds say how far it must go.
    bars = [mean + sd] if outcome.log else [mean - sd, mean + sd]
    seen = np.concatenate([mean, *(_values(cells, outcome) for cells in seeds.values()), *bars])
    shown = seen[_shown(seen, outcome)]
    return (float(shown.min()), float(shown.max())) if len(shown) else (1.0, 1.0)


def _share_y(row: list[Axes], outcome: Outcome, model: str, extent: tuple[float, float]) -> None:
    """One scale for the panels of a row, named at its left."""
    low, high = extent
    for axes in row:
        if outcome.log:
            room = (high / low) ** 0.05 * 1.05
            log_axis(axes, low / room, high * room)
        else:
            room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
            axes.set_ylim(low - room, high + room)
    for axes in row[1:]:
        axes.tick_params(labelleft=False)
    row[0].set_ylabel(f"{model}\n{outcome.label}" if model else outcome.label)


def _legend(figure: Figure, groups: list[Group], summary: pd.DataFrame, palette: Palette) -> None:
    drawn = list(dict.fromkeys(series for group in groups for series in group.series))
    entries: dict[str, object] = {one.label: handle(palette.style(*one)) for one in drawn}
    for sgd in by_series(summary[summary["variant"] == "sgd"]):
        line = Line2D([], [], **palette.style(*sgd).line_style)
        entries[f"{sgd.label}, mean ± sd"] = (Patch(color=GREY, alpha=0.25, lw=0), line)
    if num_lost(summary).sum():
        pruned = ", or pruned" * ("n_pruned" in summary)
        entries[f"seeds diverged or failed{pruned}"] = Line2D([], [], ls="", marker="x", color=GREY)
    add_legend(figure, entries)
