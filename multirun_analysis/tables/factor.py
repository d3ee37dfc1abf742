"""What a factor of the configuration changes: a page of its contrasts."""

from __future__ import annotations

from typing import Any

import pandas as pd

from multirun_analysis.stats.factor import Factor, factor_effects
from multirun_analysis.study import Study
from multirun_analysis.tables.effects import outcome_label, statistics_row
from multirun_analysis.tables.entries import MISSING
from multirun_analysis.tables.pages import Page, Section
from multirun_analysis.wording.labels import setting_text, short_names

_LEGEND = (
    "Each number is the mean over seeds of the difference within a pair: two cells of one seed in "
    "which everything else that varies is equal. With a 95 % t interval; BCa is the bootstrap over "
    "whole seeds, from 8 seeds on; neither is adjusted for its number. At equal fit: the same "
    "difference of what a regression on the training loss, its square and the seeds leaves of the "
    "outcome, over the cells of both levels; the training loss may be a mediator. p is that of the "
    "two-sided sign-flip test (exact up to 16 seeds); all tests of this page are exploratory and "
    "adjusted together for the false discovery rate (BH). Seeds without both values are left out "
    f"and counted. {MISSING}: no seed has both."
)


def factor_page(study: Study, factor: Factor, value: str | None = None) -> Page:
    """A table for each outcome, or for ``value`` alone, and measurement, a row for each contrast.

    Raises:
        ConfigError: If no two cells are a pair, or nothing in the study is called ``value``.
    """
    found = factor_effects(study.runs, study.measurements, factor, value=value)
    short = short_names(found.keys)
    sections = [_confounded(found.confounded)] if found.confounded else []
    outcomes = found.effects.groupby(["outcome", "settings_label"], sort=False, dropna=False)
    for _, rows in outcomes:
        measured = rows["settings_label"].iloc[0]
        heading = outcome_label(rows.iloc[0])
        table = pd.DataFrame(
            [
                {**{short[key]: _text(row[key]) for key in found.keys}, **statistics_row(row)}
                for row in rows.to_dict("records")
            ],
            dtype="object",
        )
        heading = heading if pd.isna(measured) else f"{heading}, {measured}"
        sections.append(Section(heading=heading, table=table))
    return Page(
        name="factor",
        title=f"{factor.title}, paired by seed: study {study.name}",
        legend=_LEGEND,
        sections=tuple(sections),
        data=found.effects,
    )


def _confounded(others: tuple[str, ...]) -> Section:
    text = (
        f"These differ between the levels too, so that each number is of all: {'; '.join(others)}."
    )
    return Section(heading="", text=(text,))


def _text(value: Any) -> str:
    return "" if pd.isna(value) else setting_text(value)
