"""A row of a summary as the text of one table cell, and as the number that competes in its column.

* ``96.52`` is one seed, ``96.52 ± 0.31 (n=3)`` the mean and sample sd of three;
* ``96.52 ± 0.31 (n=2, 1 diverged)``: the loss of a third one became NaN or inf;
* ``diverged``, ``pruned`` (ended early by the study's pruner), ``?? (failed)`` and ``??`` (missing,
  or not finished) are never a number.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from multirun_analysis.wording.labels import Values
from multirun_analysis.wording.numbers import number

MISSING = "??"

#: What the mean and the sd become; without an sd for one seed.
Format = Callable[..., str]


def with_texts(summary: pd.DataFrame, form: Format) -> pd.DataFrame:
    """A summary with what stands in the table: ``text``, and the ``score`` that competes."""
    counts = [name for what in _NOTES if (name := f"n_{what}") in summary]
    rows = summary[["mean", "sd", "n", *counts]].to_dict("records")
    texts, scores = [cell_text(row, form) for row in rows], [_score(row, form) for row in rows]
    return summary.assign(
        text=pd.Series(texts, index=summary.index, dtype="object"),
        score=pd.Series(scores, index=summary.index, dtype="float64"),
    )


#: What is said of the seeds that a summary counts as ``n_...``.
_NOTES = {
    "diverged": "diverged",
    "failed": "failed",
    "pruned": "pruned",
    "missing": "missing",
    "unconverged": "not converged",
}


def _score(row: Values, form: Format) -> float:
    """The mean as it is printed, so that what reads the same ties; NaN does not compete.

    A cell does not compete whose mean leaves out the seeds that did worst (they diverged, or were
    pruned), or takes in eigenvalues that are known too roughly.
    """
    doubtful = row["n_diverged"] or row.get("n_pruned") or row["n_unconverged"]
    sound = row["n"] and not doubtful
    return float(form(row["mean"])) if sound else np.nan


def notes(row: Values) -> list[str]:
    """How many seeds have no value and why, and how many have a doubtful one.

    >>> notes({"n_diverged": 1, "n_failed": 0, "n_missing": 2, "n_unconverged": 0})
    ['1 diverged', '2 missing']
    """
    return [f"{row[f'n_{what}']} {note}" for what, note in _NOTES.items() if row.get(f"n_{what}")]


def cell_text(row: Values, form: Format) -> str:
    """One cell of a table, from one row of a summary."""
    n = row["n"]
    if n == 0:
        return _text_without_value(row)

    text = form(row["mean"], None if n == 1 else row["sd"])
    told = notes(row)
    return text if n == 1 and not told else f"{text} ({', '.join([f'n={n}', *told])})"


def _text_without_value(row: Values) -> str:
    named = {"diverged": row["n_diverged"], "pruned": row.get("n_pruned", 0)}
    failed = row["n_failed"]
    seeds = sum(named.values()) + failed + row["n_missing"]
    text = next((what for what, number in named.items() if number), MISSING)
    if seeds == 1:
        return f"{MISSING} (failed)" if failed else text
    told = [
        f"{number} of {seeds}" if what == text else f"{number} {what}"
        for what, number in {**named, "failed": failed}.items()
        if number
    ]
    return f"{text} ({', '.join(told)})" if told else text


def two_decimals(mean: float, sd: float | None = None) -> str:
    """Percentages."""
    return f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}"


def significant(mean: float, sd: float | None = None) -> str:
    """Four significant digits of the mean, and the sd to the same place."""
    exponent, values = int(f"{mean:.3e}".split("e")[1]), [mean] if sd is None else [mean, sd]
    if not -3 <= exponent <= 5:
        return " ± ".join(f"{value:.3e}" for value in values)
    place = 3 - exponent
    return " ± ".join(f"{round(value, place):.{max(0, place)}f}" for value in values)


def or_blank(value: object) -> str:
    """A text, and nothing for what is missing."""
    return value if isinstance(value, str) else ""


def rho_text(rho: float) -> str:
    """A rho as text, and nothing where there is none."""
    return "" if pd.isna(rho) else number(rho)
