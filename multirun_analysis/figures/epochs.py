"""Numbers of each epoch: learning curves, and what the two gradients say about each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from multirun_analysis.figures.panels import (
    MOST_COLUMNS,
    NO_RHO,
    Cells,
    Series,
    by_line,
    by_series,
    draw_line,
    models_of,
    share_y,
)
from multirun_analysis.figures.style import (
    GREY,
    Palette,
    SeriesStyle,
    add_bar,
    add_legend,
    handle,
    new_figure,
    shade,
    styled,
    thinned,
)
from multirun_analysis.wording.numbers import number

LAYERS = "layer_cosines."

_CELL = ["recipe_key", "model", "optimizer", "variant", "granularity", "rho"]


class Curve(NamedTuple):
    """A column of ``history.jsonl``."""

    column: str
    label: str
    reference: float | None = None


LEARNING = (
    Curve("train_loss", "training loss\n(nats)"),
    Curve("val_loss", "validation loss\n(nats)"),
    Curve("train_accuracy", "training\naccuracy (%)"),
    Curve("val_accuracy", "validation\naccuracy (%)"),
)
AMPLIFIED = Curve("amplified_share", "share of elements\nwith |h| > |g|", 0.5)
#: What the perturbation does to the gradient.
PERTURBATION = (
    Curve("sign_agreement", "share of elements\nwith g·h > 0"),
    Curve("cosine", "cosine of\ng and h"),
    Curve("norm_ratio", "‖h‖ / ‖g‖", 1.0),
    Curve("sam_gap", "L(w+ε) − L(w)\n(nats)", 0.0),
    Curve("directional_curvature", "curvature\nalong g", 0.0),
)
#: What is then done with it.
STEP = (
    Curve("update_cosine_clean", "cosine of\nd and g"),
    Curve("update_cosine_perturbed", "cosine of\nd and h"),
    Curve("update_norm_ratio", "‖d‖ / ‖h‖", 1.0),
    Curve("update_norm", "‖d‖"),
    Curve("grad_norm", "‖g‖"),
    Curve("weight_norm", "‖w‖"),
)


class Column(NamedTuple):
    """One column of panels."""

    title: str
    lines: list[tuple[Series, float, SeriesStyle]]


def epoch_summary(history: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Mean and sd of every number over the seeds of equal cells, at each epoch.

    Returns:
        Recipe, model, optimizer, variant, granularity, rho, epoch, and two columns ``<number>`` and
        ``<number>:sd`` for each.
    """
    cells = runs.loc[runs["status"] == "complete", ["cell_id", *_CELL]]
    columns = [
        name
        for name in history.columns
        if name not in ("cell_id", "epoch") and pd.api.types.is_numeric_dtype(history[name])
    ]
    # Rows of equal cells carry one number each: quicker to group by than six columns of text.
    group = cells.groupby(_CELL, dropna=False, sort=False).ngroup()
    known = history[["cell_id", "epoch", *columns]].merge(
        pd.DataFrame({"cell_id": cells["cell_id"], "group": group}), on="cell_id"
    )
    numbers = known[columns].astype("float64")
    numbers = numbers.where(np.isfinite(numbers))
    grouped = numbers.groupby([known["group"], known["epoch"].astype("int64")])
    parts = [grouped.mean(), grouped.std().add_suffix(":sd")]
    wide = pd.concat(parts, axis="columns").copy().reset_index()
    described = cells.assign(group=group).drop_duplicates("group").drop(columns="cell_id")
    return described.merge(wide, on="group").drop(columns="group")


# --------------------------------------------------------------------------- curves


@styled
def over_epochs(
    summary: pd.DataFrame, curves: Sequence[Curve], palette: Palette, *, by_model: bool = False
) -> Figure | None:
    """Curves over the epochs: a row per number (or per model), a column per radius.

    Numbers that no cell has are left out. The rows of :func:`epoch_summary` are of one recipe, and
    of one model but with ``by_model``, where each model has rows of its own.

    Returns:
        None where no cell has any of the numbers.
    """
    drawn = [curve for curve in curves if _has_values(summary, curve)]
    known = summary[summary[[curve.column for curve in drawn]].notna().any(axis="columns")]
    columns = _columns(known, palette)
    if not drawn or not columns:
        return None
    models = models_of(known) if by_model else [""]
    rows = [(model, curve) for model in models for curve in drawn]
    height = 2.3 if by_model else 1.55
    figure, grid = new_figure(len(rows), len(columns), row_height=height)
    for (model, curve), line in zip(rows, grid, strict=True):
        lines = by_line(known[known["model"] == model] if model else known, "epoch")
        for column, axes in zip(columns, line, strict=True):
            _draw_lines(axes, column, lines, curve)
        label = f"{model}\n{curve.label}" if len(models) > 1 else curve.label
        share_y(_visible(line) or line, label)
    _label(grid, [column.title for column in columns])
    entries = {
        _line_label(series, rho): handle(style)
        for column in columns
        for series, rho, style in column.lines
    }
    add_legend(figure, entries)
    return figure


def left_out(summary: pd.DataFrame) -> list[float]:
    """The radii that have no column, since there are too many."""
    radii = _radii(summary)
    return [rho for rho in radii if rho not in thinned(radii, MOST_COLUMNS)]


def _has_values(summary: pd.DataFrame, curve: Curve) -> bool:
    return curve.column in summary and bool(summary[curve.column].notna().any())


def _radii(summary: pd.DataFrame) -> list[float]:
    return sorted(summary.loc[summary["variant"] != "sgdhess", "rho"].dropna().unique())


def _columns(summary: pd.DataFrame, palette: Palette) -> list[Column]:
    """A column per radius, one for all factors of SGDHESS, and SGD in each of them."""
    found = summary[["optimizer", "variant", "granularity", "rho"]].drop_duplicates()
    series = {one: sorted(rows["rho"].dropna()) for one, rows in by_series(found).items()}
    sgd = [(one, NO_RHO, palette.style(*one)) for one in series if one.variant == "sgd"]
    columns = []
    for rho in thinned(_radii(summary), MOST_COLUMNS):
        here = [
            (one, rho, palette.style(*one))
            for one in series
            if one.variant not in ("sgd", "sgdhess") and rho in series[one]
        ]
        columns.append(Column(f"ρ = {number(rho)}", [*sgd, *here]))
    for one in (one for one in series if one.variant == "sgdhess"):
        columns.append(Column(one.optimizer, [*sgd, *_factor_lines(one, series[one], palette)]))
    return columns or ([Column("", sgd)] if sgd else [])


def _factor_lines(
    series: Series, factors: Sequence[float], palette: Palette
) -> list[tuple[Series, float, SeriesStyle]]:
    """SGDHESS's lines: the larger the factor, the darker and the fuller the marker."""
    style = palette.style(*series)
    rhos = thinned(factors, MOST_COLUMNS)
    fillings = ("none", "left", "full")
    return [
        (
            series,
            rho,
            SeriesStyle(
                shade(style.colour, k + 1, len(rhos) + 1),
                style.marker,
                style.line,
                fillings[min(2, k * 3 // max(1, len(rhos)))],
            ),
        )
        for k, rho in enumerate(rhos)
    ]


def _draw_lines(axes: Axes, column: Column, lines: Cells, curve: Curve) -> None:
    keys = [(series, rho) for series, rho, _ in column.lines]
    if not any(_has_values(lines[key], curve) for key in keys if key in lines):
        axes.set_axis_off()
        return
    if curve.reference is not None:
        axes.axhline(curve.reference, color=GREY, linewidth=0.7, zorder=1)
    for k, (series, rho, style) in enumerate(column.lines):
        rows = lines.get((series, rho))
        if rows is None or not _has_values(rows, curve):
            continue
        epochs, mean = rows["epoch"].to_numpy(int), rows[curve.column].to_numpy(float)
        sd = rows[f"{curve.column}:sd"].fillna(0).to_numpy(float)
        axes.fill_between(epochs, mean - sd, mean + sd, color=style.colour, alpha=0.13, lw=0)
        place = (k, len(column.lines))
        draw_line(axes, epochs, mean, style, _line_label(series, rho), place, markers=5)


def _line_label(series: Series, rho: float) -> str:
    return f"{series.label}, ρ = {number(rho)}" if series.variant == "sgdhess" else series.label


def _visible(line: Sequence[Axes]) -> list[Axes]:
    """The panels in which something is drawn."""
    return [axes for axes in line if axes.axison]


def _label(grid: list[list[Axes]], titles: Sequence[str]) -> None:
    for title, column in zip(titles, zip(*grid, strict=True), strict=True):
        *above, lowest = _visible(column) or column
        column[0].set_title(title)
        for axes in above:
            axes.tick_params(labelbottom=False)
        lowest.set_xlabel("epoch")
    grid[0][0].figure.align_ylabels([line[0] for line in grid])


# --------------------------------------------------------------------------- layers


@styled
def layer_cosines(summary: pd.DataFrame) -> Figure | None:
    """Cosine of g and h in each weight tensor over the epochs, as shades.

    A row per series, a column per radius; in a panel the network's input is at the top.

    Returns:
        None where no cell has these numbers.
    """
    layers = [
        name
        for name in summary.columns
        if name.startswith(LAYERS) and ":" not in name and summary[name].notna().any()
    ]
    if not layers:
        return None
    known = summary[summary[layers].notna().any(axis="columns")]
    lines, radii = by_line(known, "epoch"), thinned(_radii(known), MOST_COLUMNS)
    series = [one for one in by_series(known) if any((one, rho) in lines for rho in radii)]
    lowest = float(np.nanquantile(known[layers].to_numpy(float), 0.02))
    figure, grid = new_figure(len(series), len(radii), row_height=1.65)
    image = None
    for one, line in zip(series, grid, strict=True):
        for rho, axes in zip(radii, line, strict=True):
            rows = lines.get((one, rho))
            axes.grid(visible=False)
            if rows is None:
                axes.set_axis_off()
                continue
            epochs = rows["epoch"].to_numpy(int)
            image = axes.imshow(
                rows[layers].to_numpy(float).T,
                aspect="auto",
                interpolation="nearest",
                cmap="cividis",
                vmin=lowest,
                vmax=1.0,
                extent=(epochs[0] - 0.5, epochs[-1] + 0.5, len(layers) - 0.5, -0.5),
            )
            axes.set_yticks([])
        first = _visible(line)[0]
        first.set_ylabel(one.label.replace(", ", "\n"))
        _name_layers(first, [name.removeprefix(LAYERS) for name in layers])
    _label(grid, [f"ρ = {number(rho)}" for rho in radii])
    if image is not None:
        add_bar(figure, grid, image, "cosine of g and h", 0.7, extend="min")
    return figure


def _name_layers(axes: Axes, layers: Sequence[str]) -> None:
    shown = [int(k) for k in thinned(list(range(len(layers))), 10)]
    names = [layers[k].removesuffix(".weight") for k in shown]
    names = [name if len(name) <= 24 else f"{name[:23]}…" for name in names]
    axes.set_yticks(shown, names, fontsize=6)
