"""A short verdict on each question that was named beforehand: is its contrast significant?

Significant is a contrast whose adjusted p is at most 0.05. *Not significant* is no claim that there
is no change; where the seeds are too few for the family of tests to find anything, the verdict says
how many more there must be. A study that names no tests gets the headline contrasts instead, as
exploratory ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd

from multirun_analysis.stats.effects import HEADLINE
from multirun_analysis.stats.families import CONFIRMATORY
from multirun_analysis.stats.paired import ALPHA
from multirun_analysis.tables.effects import design_title, table_row
from multirun_analysis.tables.pages import Page, Section
from multirun_analysis.wording.numbers import interval_text, number, p_text

Verdict = Literal["significant", "not significant", "too few seeds"]
Row = Mapping[Any, Any]

#: Outcomes of the verdicts where no tests were named beforehand.
_USUAL = ("test_accuracy", "log_lambda_max")

_LEGEND = (
    "Intervals are 95 % t intervals, each on its own; p are those of sign-flip tests, adjusted "
    "for the tests of their family; significant: at most 0.05. Not significant is no claim that "
    "there is no change."
)


def verdict(row: Row) -> Verdict:
    """What a test allows to say."""
    if not pd.isna(row["p_adjusted"]) and row["p_adjusted"] <= ALPHA:
        return "significant"
    return "not significant" if row["n"] >= row["seeds_needed"] else "too few seeds"


def questions(effects: pd.DataFrame) -> pd.DataFrame:
    """The rows of effects that a verdict is given on, in their order."""
    named = effects[effects["family"] == CONFIRMATORY]
    if len(named):
        return named
    return effects[(effects["effect"] == HEADLINE) & effects["outcome"].isin(_USUAL)]


def verdict_lines(effects: pd.DataFrame) -> list[str]:
    """A line for each question: contrast, estimate, interval, adjusted p and verdict."""
    return [_line(row) for row in questions(effects).to_dict("records")]


def verdicts_page(effects: pd.DataFrame) -> Page:
    """The verdicts of a study, a table per recipe."""
    rows = questions(effects)
    return Page(
        name="verdicts",
        title="Direction or magnitude: which contrasts are significant",
        legend=_LEGEND,
        sections=tuple(
            Section(heading=str(recipe), text=_exploratory(asked), table=_table(asked))
            for recipe, asked in rows.groupby("recipe", sort=False)
        ),
        data=rows.assign(verdict=[verdict(row) for row in rows.to_dict("records")]),
    )


def _exploratory(rows: pd.DataFrame) -> tuple[str, ...]:
    named = (rows["family"] == CONFIRMATORY).any()
    return () if named else ("No tests were named beforehand: all of these are exploratory.",)


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    shown = [
        {"outcome": design_title(row), **table_row(row), "verdict": _words(row)}
        for row in rows.to_dict("records")
    ]
    return pd.DataFrame(shown, dtype="object").drop(columns=["[95 % BCa]", "median"])


def _line(row: Row) -> str:
    what = f"{row['effect'].replace('_', ' ')} on {design_title(row)}"
    found = f"{interval_text(row)}, adjusted p = {p_text(row['p_adjusted'])}" if row["n"] else "??"
    return (
        f"{row['model']}, rho {number(row['rho'])}, {what}: {found}, n = {row['n']}: {_words(row)}"
    )


def _words(row: Row) -> str:
    """The verdict with the direction of what is significant, or how many seeds are missing."""
    what = verdict(row)
    if what == "significant":
        return f"significant, {'higher' if row['estimate'] > 0 else 'lower'}"
    lacking = int(row["seeds_needed"] - row["n"])
    return f"too few seeds, {lacking} more needed" if what == "too few seeds" else what
