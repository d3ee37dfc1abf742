"""Every level of a factor against one, as a forest: a row per level, outcomes in columns."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from multirun_analysis.figures.captions import Picture, Recipe, listed, slug
from multirun_analysis.figures.effects import (
    AT_EQUAL_FIT,
    BRACKETS,
    OUTCOMES,
    draw_at_equal_fit,
    draw_estimate,
    set_rows,
)
from multirun_analysis.figures.style import (
    BLACK,
    GREY,
    SKY,
    SeriesStyle,
    add_legend,
    handle,
    new_figure,
    styled,
)
from multirun_analysis.stats.factor import Factor
from multirun_analysis.stats.paired import ALPHA
from multirun_analysis.stats.summary import split_by_recipe
from multirun_analysis.study import Study
from multirun_analysis.wording.labels import setting_text, short_names
from multirun_analysis.wording.numbers import signed

#: What the figure shows of all outcomes; where there is neither, what there is.
_SHOWN = ("test_accuracy", "log_lambda_max")
#: An estimate that is so many times as large as all after it would leave them no room.
_OFF_SCALE = 4
#: Characters of a line of a label, and lines of it.
_LABEL, _LINES = 36, 3

_FOUND = SeriesStyle(BLACK, "D", "-")
_NOT_FOUND = SeriesStyle(BLACK, "D", "-", "none")
_CAPTION = (
    "To the right of zero a level gives more of the outcome than {reference} of the same seed. "
    "Levels are in the order of the outcome on the right. Lines: 95 % t intervals over seeds; bars "
    "at their ends: 95 % BCa bootstrap intervals, from eight seeds on; filled: p of the sign-flip "
    "test is at most 0.05, adjusted over all outcomes (Benjamini-Hochberg). Grey: the same "
    "contrast adjusted for the training loss, which may be a mediator.{sgd}{off_scale}"
)


def ablation_pictures(study: Study, effects: pd.DataFrame, factor: Factor) -> Iterator[Picture]:
    """A picture for each measurement of what is shown, one where nothing is measured.

    Args:
        study: Whose effects they are.
        effects: Of :func:`.factor_effects` against a reference.
        factor: What they are of.
    """
    shown = [name for name in _SHOWN if name in set(effects["outcome"])]
    here = effects[effects["outcome"].isin(shown)] if shown else effects
    recipes = "; or ".join(title for title, _ in split_by_recipe(study.runs))
    recipe = Recipe(recipes, "", "", study.runs, study.runs)
    keys = here["settings_key"].dropna().unique().tolist()
    for key in keys or [""]:
        rows = here[here["settings_key"].isna() | (here["settings_key"] == key)]
        label = "; ".join(rows["settings_label"].dropna().unique())
        yield from recipe.picture(
            f"ablation{f'-{slug(key)}' * (len(keys) > 1)}",
            f"{factor.title}, paired by seed",
            ablation_forest(rows),
            _caption(rows, factor),
            f"{factor.title}: estimates with intervals. {_estimates(rows)}",
            label=label,
            several_labels=len(keys) > 1,
        )


def _caption(rows: pd.DataFrame, factor: Factor) -> str:
    reference = setting_text(factor.levels[0])
    sgd = "" if _of_sgd(rows) is None else " What lies at the dotted line is as far from it as SGD."
    away = any(_off_scale(part) for _, part in rows.groupby("outcome"))
    off_scale = " A number at the edge is an estimate that lies beyond it." if away else ""
    return _CAPTION.format(reference=reference, sgd=sgd, off_scale=off_scale)


@styled
def ablation_forest(effects: pd.DataFrame) -> Figure | None:
    """Estimates with 95 % intervals, plain and adjusted for the training loss.

    Args:
        effects: Of :func:`.factor_effects` against a reference, of a measurement at most.

    Returns:
        None where there is no estimate.
    """
    labelled = effects.assign(label=_labels(effects))
    known = labelled[np.isfinite(labelled["estimate"].astype(float))]
    if known.empty:
        return None
    outcomes = list(dict.fromkeys(known["outcome"]))
    labels = _in_order(known, outcomes)
    lines = sum(label.count("\n") + 1 for label in labels)
    height = 0.5 + max(0.3 * len(labels), 0.165 * lines + 0.06 * len(labels))
    figure, [axes_of] = new_figure(1, len(outcomes), row_height=height, extra=1.0)
    for outcome, axes in zip(outcomes, axes_of, strict=True):
        _draw_panel(axes, known[known["outcome"] == outcome], labels)
        axes.set_title(OUTCOMES.get(outcome, outcome))
    axes_of[0].set_yticks(range(len(labels)), labels)
    _legend(figure, known)
    return figure


# --------------------------------------------------------------------------- rows


def _labels(effects: pd.DataFrame) -> list[str]:
    """What each row is called, on lines of their own what it differs in."""
    # Before the outcome stands what tells contrasts apart: level, name, differences, other keys.
    told = list(effects.columns[: effects.columns.get_loc("outcome")])
    keys = told[told.index("differs") + 1 :]
    short = short_names(keys)
    texts = []
    for row in effects.to_dict("records"):
        others = [f"{short[key]} {setting_text(row[key])}" for key in keys if not pd.isna(row[key])]
        texts.append((row["name"], ", ".join(filter(None, [row["differs"], *others]))))
    cut = {text: _wrapped(*text, lines=_LINES) for text in texts}
    repeated = Counter(cut.values())
    return [cut[text] if repeated[cut[text]] == 1 else _wrapped(*text) for text in texts]


def _wrapped(name: str, differs: str, lines: int | None = None) -> str:
    """A label; what has no place on so many lines is left out."""
    rest = None if lines is None else lines - 1
    first = textwrap.wrap(name, _LABEL, max_lines=None if lines is None else 1)
    below = textwrap.wrap(differs, _LABEL, max_lines=rest, placeholder=" …")
    return "\n".join([*first, *below])


def _in_order(known: pd.DataFrame, outcomes: Sequence[str]) -> list[str]:
    """The labels from the largest estimate of the last outcome down, those without one last."""
    last = known[known["outcome"] == outcomes[-1]].set_index("label")["estimate"].astype(float)
    return sorted(dict.fromkeys(known["label"]), key=lambda label: -last.get(label, -np.inf))


def _of_sgd(rows: pd.DataFrame) -> float | None:
    """The estimate of SGD, which lacks all that SAM has, if it is a level, and once."""
    found = rows[rows["opt"] == "sgd"] if "opt" in rows else rows.head(0)
    each = found.groupby("outcome").size()
    return float(found["estimate"].iloc[0]) if len(found) and (each == 1).all() else None


# --------------------------------------------------------------------------- drawing


def _draw_panel(axes: Axes, rows: pd.DataFrame, labels: Sequence[str]) -> None:
    axes.axvline(0, color=GREY, linewidth=0.9, zorder=1)
    sgd = _of_sgd(rows)
    if sgd is not None:
        axes.axvline(sgd, **_SGD, zorder=1)
    away = _off_scale(rows)
    room = rows.loc[~rows.index.isin(away), "estimate"].astype(float).abs().max()
    for index, row in zip(rows.index, rows.to_dict("records"), strict=True):
        y = labels.index(row["label"])
        style = _FOUND if row["p_adjusted"] <= ALPHA else _NOT_FOUND
        if index in away:
            _draw_at_edge(axes, row, y - 0.12)
        else:
            draw_estimate(axes, row, y - 0.12, style)
        if index not in away or abs(row["fit_estimate"]) <= room:
            draw_at_equal_fit(axes, row, y + 0.24)
    set_rows(axes, len(labels))
    for y in range(1, len(labels)):
        axes.axhline(y - 0.5, color="#EEEEEE", linewidth=0.6, zorder=0)
    axes.margins(x=0.05)


def _off_scale(rows: pd.DataFrame) -> set[Any]:
    """The rows, by their index, beside whose estimates the others could not be seen."""
    sizes = rows["estimate"].astype(float).abs().dropna().sort_values(ascending=False)
    away: set[Any] = set()
    for index, size, following in zip(sizes.index, sizes, sizes[1:], strict=False):
        if size <= _OFF_SCALE * following:
            break
        away.add(index)
    return away


def _draw_at_edge(axes: Axes, row: Mapping[Any, Any], y: float) -> None:
    """An estimate beyond the axis, as a number with an arrow where it would leave."""
    low, high = (signed(row[key], 1) for key in ("t_low", "t_high"))
    text, left = f"{signed(row['estimate'], 1)} [{low}, {high}]", row["estimate"] < 0
    axes.text(
        0.01 if left else 0.99,
        y,
        f"◀ {text}" if left else f"{text} ▶",
        transform=axes.get_yaxis_transform(),
        ha="left" if left else "right",
        va="center",
        fontsize="small",
    )


_SGD: Mapping[str, Any] = {"color": SKY, "linewidth": 1.4, "linestyle": (0, (1, 1.2))}


def _legend(figure: Figure, known: pd.DataFrame) -> None:
    significant = (known["p_adjusted"] <= ALPHA).to_numpy(dtype=bool)
    entries = {}
    if significant.any():
        entries["significant, 95 % t interval"] = handle(_FOUND)
    if not significant.all():
        entries["not significant"] = handle(_NOT_FOUND)
    if known["bca_low"].notna().any():
        entries["95 % BCa interval"] = Line2D([], [], **BRACKETS, color=GREY)
    if known["fit_estimate"].notna().any():
        entries["adjusted for the training loss, 95 % t"] = Line2D([], [], **AT_EQUAL_FIT)
    if _of_sgd(known) is not None:
        entries["SGD"] = Line2D([], [], **_SGD)
    add_legend(figure, entries)


def _estimates(rows: pd.DataFrame) -> str:
    """The estimates in words, in place of the figure."""
    texts = [
        f"{row['name']} {signed(row['estimate'], 2)}"
        for row in rows[rows["outcome"] == rows["outcome"].iloc[0]].to_dict("records")
        if pd.notna(row["estimate"])
    ]
    outcome = rows["outcome"].iloc[0]
    return f"On {OUTCOMES.get(outcome, outcome)}: {listed(texts, 24)}."
