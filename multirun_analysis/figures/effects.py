"""Effects with their intervals, as forests: radius × granularity × outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from multirun_analysis.figures.style import (
    BLACK,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SeriesStyle,
    add_legend,
    handle,
    new_figure,
    styled,
)
from multirun_analysis.wording.labels import ranking
from multirun_analysis.wording.numbers import number, p_text
from samsweep.config import Granularity

#: Outcomes, and the unit in which an effect on them is summary.
OUTCOMES: Mapping[str, str] = {
    "test_accuracy": "test accuracy (points)",
    "log_lambda_max": "ln λₘₐₓ",
    "best_test_accuracy": "at best validation (points)",
    "train_loss": "training loss (nats)",
}


#: Label and style of each effect of a figure. Magnitude is green and direction orange, as the
#: optimizers that isolate them.
Shown = Mapping[str, tuple[str, SeriesStyle]]

_DASHED = (0, (2, 1))
_MAGNITUDE, _DIRECTION = SeriesStyle(GREEN, "s", "-"), SeriesStyle(ORANGE, "^", "-")

HEADLINE: Shown = {
    "magnitude_minus_direction": (
        "M − D = SAMMAGNITUDE − SAMDIRECTION",
        SeriesStyle(BLACK, "D", "-"),
    ),
}
MAIN: Shown = {
    "magnitude": ("magnitude, M", _MAGNITUDE),
    "direction": ("direction, D", _DIRECTION),
    "interaction": ("interaction, I", SeriesStyle(PURPLE, "P", _DASHED)),
}
SIMPLE: Shown = {
    "magnitude_at_sgd_direction": (
        "magnitude, at SGD's direction",
        SeriesStyle(GREEN, "s", _DASHED, "none"),
    ),
    "magnitude_at_sam_direction": ("magnitude, at SAM's direction", _MAGNITUDE),
    "direction_at_sgd_magnitude": (
        "direction, at SGD's magnitude",
        SeriesStyle(ORANGE, "^", _DASHED, "none"),
    ),
    "direction_at_sam_magnitude": ("direction, at SAM's magnitude", _DIRECTION),
}


@styled
def forest(effects: pd.DataFrame, shown: Shown) -> Figure | None:
    """Estimates with 95 % intervals: models and granularities in rows, outcomes in columns.

    Returns:
        None where there is no estimate.
    """
    chosen = effects["effect"].isin(list(shown)) & effects["outcome"].isin(list(OUTCOMES))
    known = effects[chosen & np.isfinite(effects["estimate"])]
    if known.empty:
        return None
    outcomes = [name for name in OUTCOMES if name in set(known["outcome"])]
    blocks = _blocks(known)
    several = known["model"].nunique() > 1
    most = max(_rows(known, block)["rho"].nunique() for block in blocks)
    height = 0.75 + most * max(0.34, 0.15 * len(shown))
    figure, grid = new_figure(len(blocks), len(outcomes), row_height=height, extra=1.0)
    for block, line in zip(blocks, grid, strict=True):
        rows = _rows(known, block)
        rhos = sorted(rows["rho"].unique())
        for outcome, axes in zip(outcomes, line, strict=True):
            _draw_panel(axes, rows[rows["outcome"] == outcome], rhos, shown)
        model, granularity = block
        line[0].set_ylabel(f"{model}\n{granularity}" if several else granularity)
        line[0].set_yticks(range(len(rhos)), [f"ρ = {number(rho)}" for rho in rhos])
    for column, outcome in enumerate(outcomes):
        _share_x([line[column] for line in grid])
        grid[0][column].set_title(OUTCOMES[outcome])
    at_equal_fit = len(shown) == 1 and bool(known["fit_estimate"].notna().any())
    _legend(figure, shown, bool(known["bca_low"].notna().any()), at_equal_fit)
    return figure


def _blocks(effects: pd.DataFrame) -> list[tuple[str, str]]:
    """Models in the order of the frame, each with its granularities from fine to coarse."""
    rank = ranking(get_args(Granularity))
    found = effects[["model", "granularity"]].drop_duplicates().to_numpy(object).tolist()
    models = list(dict.fromkeys(model for model, _ in found))
    return sorted(map(tuple, found), key=lambda block: (models.index(block[0]), rank(block[1])))


def _rows(effects: pd.DataFrame, block: tuple[str, str]) -> pd.DataFrame:
    model, granularity = block
    return effects[(effects["model"] == model) & (effects["granularity"] == granularity)]


def _draw_panel(axes: Axes, rows: pd.DataFrame, rhos: Sequence[float], shown: Shown) -> None:
    axes.axvline(0, color=GREY, linewidth=0.9, zorder=1)
    for k, (name, (_, style)) in enumerate(shown.items()):
        offset = (k - (len(shown) - 1) / 2) * 0.7 / len(shown)
        for row in rows[rows["effect"] == name].to_dict("records"):
            y = rhos.index(row["rho"])
            draw_estimate(axes, row, y + offset, style)
            if len(shown) == 1:
                draw_at_equal_fit(axes, row, y + 0.22)
                _note(axes, row, y)
    set_rows(axes, len(rhos))


def draw_estimate(axes: Axes, row: Mapping[Any, Any], y: float, style: SeriesStyle) -> None:
    """The estimate, its t interval as a line, and brackets at the ends of the BCa interval."""
    axes.plot([row["t_low"], row["t_high"]], [y, y], **style.line_style, linewidth=1.5)
    axes.plot([row["bca_low"], row["bca_high"]], [y, y], **BRACKETS, color=style.colour)
    axes.plot([row["estimate"]], [y], linestyle="", zorder=3, **style.marker_style)


#: Marks at the ends of a BCa interval.
def draw_at_equal_fit(axes: Axes, row: Mapping[Any, Any], y: float) -> None:
    """The contrast adjusted for the training loss, with its t interval."""
    ends = [row["fit_low"], row["fit_estimate"], row["fit_high"]]
    axes.plot(ends, [y] * 3, markevery=[1], **AT_EQUAL_FIT)


def set_rows(axes: Axes, number: int) -> None:
    """Rows from the top down, which only the leftmost panel names."""
    axes.set_ylim(number - 0.4, -0.6)
    axes.set_yticks(range(number), [""] * number)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


BRACKETS: Mapping[str, Any] = {"linestyle": "", "marker": "|", "markersize": 7}
#: A contrast adjusted for the training loss.
AT_EQUAL_FIT: Mapping[str, Any] = {
    "color": GREY,
    "linewidth": 1.2,
    "marker": "D",
    "markersize": 4,
    "markerfacecolor": "none",
}


def _note(axes: Axes, row: Mapping[Any, Any], y: float) -> None:
    """Seeds and p, on paper of their own, so that no line runs through the digits."""
    text = f"n = {row['n']}"
    if not pd.isna(row["p_adjusted"]):
        text += f", adj. p = {p_text(row['p_adjusted'])}"
    axes.text(
        0.99,
        y - 0.3,
        text,
        transform=axes.get_yaxis_transform(),
        ha="right",
        va="center",
        fontsize=6,
        color="#444444",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        zorder=2,
    )


def _share_x(column: Sequence[Axes]) -> None:
    for axes in column[1:]:
        axes.sharex(column[0])
    column[0].autoscale(axis="x")
    column[0].margins(x=0.08)
    for axes in column[:-1]:
        axes.tick_params(labelbottom=False)


def _legend(figure: Figure, shown: Shown, bca: bool, at_equal_fit: bool) -> None:
    entries = {f"{label}, 95 % t interval": handle(style) for label, style in shown.values()}
    if bca:
        entries["95 % BCa interval"] = Line2D([], [], **BRACKETS, color=GREY)
    if at_equal_fit:
        entries["adjusted for the training loss, 95 % t"] = Line2D([], [], **AT_EQUAL_FIT)
    add_legend(figure, entries)
