"""A table of any keys of the configuration: some in its rows, some in its columns.

What varies beside them has a table for each of its values: cells that differ in anything but the
seed are never averaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args

import pandas as pd

from multirun_analysis.runs.keys import keys_frame, resolve_key, separating_keys
from multirun_analysis.runs.values import named_value
from multirun_analysis.stats.summary import join_measurements, summarize
from multirun_analysis.study import Study
from multirun_analysis.tables.entries import MISSING, Format, significant, two_decimals, with_texts
from multirun_analysis.tables.layout import BOLD, Better, best_of
from multirun_analysis.tables.pages import Page, Section
from multirun_analysis.wording.labels import natural_order, ranking, setting_text, short_names
from multirun_analysis.wording.metrics import scored_by
from samsweep.config import (
    ASCENTS,
    BASES,
    DATASETS,
    MEASURES,
    MODELS,
    VARIANTS,
    ConfigError,
    Granularity,
)

_LEGEND = f"Mean ± sd over seeds (n). {MISSING} is a cell without a result; blank: no such cell."

#: Of what the training leaves: what is better when lower.
_LOW = ("test_loss", "val_loss", "train_loss", "best_test_loss")


class _Value(NamedTuple):
    """What the table shows."""

    label: str
    rows: pd.DataFrame  # a row per cell, or per cell and measurement
    column: str
    form: Format
    better: Better


def swept_page(study: Study, rows: Sequence[str], cols: Sequence[str], value: str) -> Page:
    """A row for each combination of some keys' values and a column for each of others'.

    Args:
        study: The study.
        rows: Keys of the rows, as users write them.
        cols: Keys of the columns; without any there is one column.
        value: A name of :func:`.named_value`.

    Raises:
        ConfigError: If the study has no such key or value.
    """
    keys = keys_frame(study.runs)
    typed = {"rows": rows, "cols": cols}
    axes = {
        option: {resolve_key(option, name, keys, study.name): name for name in names}
        for option, names in typed.items()
    }
    twice = [key for key in axes["rows"] if key in axes["cols"]]
    if twice:
        raise ConfigError(f"cols: {twice[0]} is a key of the rows: leave it out of one of them.")
    chosen = _value(study, value)
    # A row key for each cell without its seed, or with it where seeds have rows or columns.
    named = [*axes["rows"], *axes["cols"]]
    identity = study.runs["identity_without_seed"]
    if "seed" in named:
        identity = identity + "-" + study.runs["seed"].astype("string")
    by_cell = pd.Series(identity.to_numpy(), index=study.runs["cell_id"])
    placed = chosen.rows.assign(row_key=chosen.rows["cell_id"].map(by_cell).astype("string"))
    summary = with_texts(summarize(placed, chosen.column, value), chosen.form)
    cells = keys.set_index(identity.rename("row_key")).loc[lambda f: ~f.index.duplicated()]
    ours = cells.loc[summary["row_key"]].reset_index(drop=True)
    others = separating_keys(ours, named)
    statistics = [name for name in summary if name in _STATISTICS]
    data = pd.concat([ours[[*others, *named]], summary[statistics].reset_index(drop=True)], axis=1)
    bold = {"high": "highest", "low": "lowest"}
    return Page(
        name="swept",
        title=f"{chosen.label} by {_and([*rows, *cols])}: study {study.name}",
        legend=f"{_LEGEND} {BOLD.format(bold[chosen.better])}" if chosen.better else _LEGEND,
        sections=tuple(_sections(summary, ours, others, axes, chosen)),
        data=data,
    )


_STATISTICS = (
    "quantity", "mean", "median", "sd",
    "n", "n_diverged", "n_failed", "n_pruned", "n_missing", "n_unconverged", "settings_label",
)  # fmt: skip


def _and(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


# --------------------------------------------------------------------------- what is shown


def _value(study: Study, name: str) -> _Value:
    """What a name means.

    Raises:
        ConfigError: If nothing in the study has it.
    """
    runs, scored = study.runs, scored_by(study.runs["metric"])
    found = named_value(runs, study.measurements, name)
    if not found.of_cells:
        rows = join_measurements(runs, found.rows)
        known = MEASURES.get(name)
        if known is None or known.ours:
            return _Value(name, rows, found.column, significant, "low")
        # Of one's own nobody knows which is better.
        return _Value(known.label or name, rows, found.column, significant, None)
    label = name.replace("_", " ").capitalize()
    if "accuracy" in name:
        label = label.replace("accuracy", scored.label)
        form = two_decimals if scored.in_percent and name == found.column else significant
        return _Value(label, found.rows, found.column, form, scored.better)
    better: Better = "low" if found.column in _LOW else None
    return _Value(label, found.rows, found.column, significant, better)


# --------------------------------------------------------------------------- where it stands


def _sections(
    summary: pd.DataFrame,
    keys: pd.DataFrame,
    others: list[str],
    axes: Mapping[str, Mapping[str, str]],
    chosen: _Value,
) -> Iterator[Section]:
    """A section for each measurement and each combination of the other keys' values."""
    short = short_names(keys.columns)
    rows = summary.reset_index(drop=True)
    settings = rows["settings_label"] if "settings_label" in rows else pd.Series("", rows.index)
    ranks = pd.DataFrame({key: _ranks(str(key), keys[key]) for key in keys})
    ranks["settings"] = pd.factorize(settings)[0]
    number = ranks.groupby(["settings", *others]).ngroup()
    for _, places in number.groupby(number).groups.items():
        first = keys.loc[places[0]]
        parts = [_phrase(short[key].replace("_", " "), first[key]) for key in others]
        heading = ", ".join(filter(None, [str(settings[places[0]]), *parts]))
        yield _section(heading, rows.loc[places], keys.loc[places], ranks.loc[places], axes, chosen)


def _section(
    heading: str,
    rows: pd.DataFrame,
    keys: pd.DataFrame,
    ranks: pd.DataFrame,
    axes: Mapping[str, Mapping[str, str]],
    chosen: _Value,
) -> Section:
    numbers = {
        option: ranks.groupby(list(named)).ngroup() if named else pd.Series(0, ranks.index)
        for option, named in axes.items()
    }
    place = pd.DataFrame({**numbers, "text": rows["text"], "score": rows["score"]})
    # Cells that no key tells apart would overwrite each other: all of them are shown.
    place["copy"] = place.groupby(["rows", "cols"]).cumcount()
    tables = {
        what: place.pivot(index=["rows", "copy"], columns="cols", values=what)
        for what in ("text", "score")
    }
    firsts = {
        option: keys.loc[~number.duplicated()].set_index(number[~number.duplicated()])
        for option, number in numbers.items()
    }
    texts = tables["text"].fillna("")
    names = [
        ", ".join(
            _equation(name, firsts["cols"].at[column, key]) for key, name in axes["cols"].items()
        )
        or chosen.label
        for column in texts.columns
    ]
    labels = pd.DataFrame(
        {
            name: [_shown(firsts["rows"].at[row, key]) for row, _ in texts.index]
            for key, name in axes["rows"].items()
        },
        index=texts.index,
        dtype="object",
    )
    texts.columns = tables["score"].columns = pd.Index(names)
    best = best_of(tables["score"], chosen.better)
    return Section(
        heading=heading,
        table=pd.concat([labels, texts], axis="columns"),
        best=best.reindex(columns=[*labels.columns, *names], fill_value=False),
    )


def _shown(value: Any) -> str:
    return "" if pd.isna(value) else setting_text(value)


def _phrase(name: str, value: Any) -> str:
    return f"no {name}" if pd.isna(value) else f"{name} {setting_text(value)}"


def _equation(name: str, value: Any) -> str:
    return f"no {name}" if pd.isna(value) else f"{name}={setting_text(value)}"


#: The order of keys' values where it is not that of letters and numbers.
_ORDERS: Mapping[str, Sequence[str]] = {
    "model": list(MODELS),
    "opt": VARIANTS,
    "dataset": list(DATASETS),
    "base": list(BASES),
    "opt.ascent": list(ASCENTS),
    "granularity": get_args(Granularity),
}


def _ranks(key: str, column: pd.Series[Any]) -> pd.Series[Any]:
    """The place of each value in the order of a key's values: none first."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.astype("float64").rank(method="dense").fillna(0)
    rank = ranking(_ORDERS.get(key, ()))
    texts = {str(value) for value in column.dropna()}
    ordered = sorted(texts, key=lambda text: (rank(text), natural_order(text)))
    places = {text: place for place, text in enumerate(ordered, start=1)}
    return pd.Series(
        [0 if pd.isna(value) else places[str(value)] for value in column], index=column.index
    )
