"""What a factor of the configuration changes: a page of its contrasts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from multirun_analysis.stats.factor import Factor, FactorEffects, factor_effects
from multirun_analysis.study import Study
from multirun_analysis.tables.effects import outcome_label, statistics_row
from multirun_analysis.tables.entries import MISSING
from multirun_analysis.tables.pages import Page, Section
from multirun_analysis.wording.labels import setting_text, short_names

#: Name of the page on which every level is compared with one.
ABLATION = "ablation"

_STATISTICS = (
    "With a 95 % t interval; BCa is the bootstrap over "
    "whole seeds, from 8 seeds on; neither is adjusted for its number. At equal fit: the same "
    "difference of what a regression on the training loss, its square and the seeds leaves of the "
    "outcome, over the cells of {cells}; the training loss may be a mediator. p is that of the "
    "two-sided sign-flip test (exact up to 16 seeds); all tests of this page are exploratory and "
    "adjusted together for the false discovery rate (BH). Seeds without both values are left out "
    f"and counted. {MISSING}: no seed has both."
)
_LEGEND = (
    "Each number is the mean over seeds of the difference within a pair: two cells of one seed in "
    f"which everything else that varies is equal. {_STATISTICS.format(cells='both levels')}"
)


def factor_page(study: Study, factor: Factor, value: str | None = None) -> Page:
    """A table for each outcome, or for ``value`` alone, and measurement, a row for each contrast.

    Raises:
        ConfigError: If no two cells are a pair, or nothing in the study is called ``value``.
    """
    found = factor_effects(study.runs, study.measurements, factor, value=value)
    told = {"name": factor.key, "differs": "differs in"} if factor.every else {}
    if factor.every and not found.effects["differs"].any():
        told.pop("differs")
    columns = {**told, **short_names(found.keys)}
    outcomes = found.effects.groupby(["outcome", "settings_label"], sort=False, dropna=False)
    return Page(
        name=ABLATION if factor.every else "factor",
        title=f"{factor.title}, paired by seed: study {study.name}",
        legend=_legend_of(factor) if factor.every else _LEGEND,
        sections=(*_beside(found), *(_section(rows, columns) for _, rows in outcomes)),
        data=found.effects,
    )


def _legend_of(factor: Factor) -> str:
    """How a page of many levels is read."""
    reference = setting_text(factor.levels[0])
    return (
        f"Each number is the mean over seeds of a cell of the row's level less one of {reference} "
        "of the same seed, equal in everything else but what the row says that it differs in. "
        f"{_STATISTICS.format(cells='all levels of one recipe and model')}"
    )


def _section(rows: pd.DataFrame, columns: Mapping[str, str]) -> Section:
    """One outcome; ``columns`` are what tells its contrasts apart, and what it is called."""
    measured = rows["settings_label"].iloc[0]
    heading = outcome_label(rows.iloc[0])
    table = pd.DataFrame(
        [
            {**{shown: _text(row[key]) for key, shown in columns.items()}, **statistics_row(row)}
            for row in rows.to_dict("records")
        ],
        dtype="object",
    )
    return Section(heading=heading if pd.isna(measured) else f"{heading}, {measured}", table=table)


def _beside(found: FactorEffects) -> Iterator[Section]:
    """What the numbers do not say: what changes with the factor, and levels that have none."""
    if found.confounded:
        yield _confounded(found.confounded)
    if found.unpaired:
        text = f"Without a partner, and so not here: {', '.join(found.unpaired)}."
        yield Section(heading="", text=(text,))


def _confounded(others: tuple[str, ...]) -> Section:
    text = (
        f"These differ between the levels too, so that each number is of all: {'; '.join(others)}."
    )
    return Section(heading="", text=(text,))


def _text(value: Any) -> str:
    return "" if pd.isna(value) else setting_text(value)
