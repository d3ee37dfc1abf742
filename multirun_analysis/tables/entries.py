"""A row of a summary as the text of one table cell, and as the number that competes in its column.

* ``96.52`` is one seed, ``96.52 ± 0.31 (n=3)`` the mean and sample sd of three;
* ``96.52 ± 0.31 (n=2, 1 diverged)``: the loss of a third one became NaN or inf;
* ``diverged``, ``?? (failed)`` and ``??`` (missing, or not finished) are never a number.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from multirun_analysis.wording.labels import Values

MISSING = "??"

#: What the mean and the sd become; without an sd for one seed.
Format = Callable[[float, float | None], str]


def with_texts(summary: pd.DataFrame, form: Format) -> pd.DataFrame:
    """A summary with what stands in the table: ``text``, and the ``score`` that competes."""
    rows = summary[list(_SHOWN)].to_dict("records")
    texts, scores = [cell_text(row, form) for row in rows], [cell_score(row, form) for row in rows]
    return summary.assign(
        text=pd.Series(texts, index=summary.index, dtype="object"),
        score=pd.Series(scores, index=summary.index, dtype="float64"),
    )


_SHOWN = ("mean", "sd", "n", "n_diverged", "n_failed", "n_missing", "n_unconverged")


def cell_score(row: Values, form: Format) -> float:
    """The mean as it is printed, so that what reads the same ties; NaN does not compete.

    A cell does not compete whose mean leaves out the seeds that did worst (they diverged), or
    takes in eigenvalues that are known too roughly.
    """
    sound = row["n"] and not row["n_diverged"] and not row["n_unconverged"]
    return float(form(row["mean"], None)) if sound else np.nan


def cell_text(row: Values, form: Format) -> str:
    """One cell of a table, from one row of a summary."""
    n = row["n"]
    if n == 0:
        return _text_without_value(row)
    notes = [
        f"{row[f'n_{what}']} {note}"
        for what, note in (
            ("diverged", "diverged"),
            ("failed", "failed"),
            ("missing", "missing"),
            ("unconverged", "not converged"),
        )
        if row[f"n_{what}"]
    ]
    text = form(row["mean"], None if n == 1 else row["sd"])
    if n == 1 and not notes:
        return text
    return f"{text} ({', '.join([f'n={n}', *notes])})"


def _text_without_value(row: Values) -> str:
    diverged, failed = row["n_diverged"], row["n_failed"]
    seeds = diverged + failed + row["n_missing"]
    if seeds == 1:
        return "diverged" if diverged else f"{MISSING} (failed)" if failed else MISSING
    notes = [f"{diverged} of {seeds}"] * bool(diverged) + [f"{failed} failed"] * bool(failed)
    text = "diverged" if diverged else MISSING
    return f"{text} ({', '.join(notes)})" if notes else text


def two_decimals(mean: float, sd: float | None) -> str:
    """Percentages."""
    return f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}"


def significant(mean: float, sd: float | None, digits: int = 4) -> str:
    """Four significant digits of the mean, and the sd to the same place."""
    exponent = int(f"{mean:.{digits - 1}e}".split("e")[1])
    place = digits - 1 - exponent
    if not -3 <= exponent <= 5:
        shown = [f"{value:.{digits - 1}e}" for value in (mean, sd) if value is not None]
    else:
        decimals = max(0, place)
        shown = [f"{round(v, place):.{decimals}f}" for v in (mean, sd) if v is not None]
    return " ± ".join(shown)


def or_blank(value: object) -> str:
    """A text, and nothing for what is missing."""
    return value if isinstance(value, str) else ""
