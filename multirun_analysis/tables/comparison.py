"""Published numbers beside ours, with the difference where both are the same quantity.

The published code of the study swaps SAMDIRECTION and SAMMAGNITUDE against its text, so that each
of its rows can be read in two ways: by the row's name, and as coded. Both stand side by side.

A difference is formed only between numbers of one data set and one quantity. Where our recipe, or
our measure of sharpness, is another than the published one, the page says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from multirun_analysis.references import about, load_reference
from multirun_analysis.runs.measurements import gives_largest_eigenvalue
from multirun_analysis.stats.summary import join_measurements, split_by_recipe, summarize
from multirun_analysis.study import Study
from multirun_analysis.tables.entries import (
    MISSING,
    cell_text,
    or_blank,
    rho_text,
    significant,
    two_decimals,
)
from multirun_analysis.tables.pages import Page, Section
from multirun_analysis.wording.labels import Values, setting_text

#: Each reading, and the column of the reference that says which variant a row then is.
READINGS: Mapping[str, str] = {"by name": "variant", "as coded": "variant_as_coded"}

#: Columns of the page's data: a row per published number, recipe or measurement of ours, reading.
COMPARISON_COLUMNS: Mapping[str, str] = {
    "recipe": "string",  # ours; missing where the study has nothing to set beside
    "settings_label": "string",  # of our measurement
    "quantity": "string",  # accuracy (percent) or sharpness
    "table": "string",  # of the publication
    "model": "string",
    "variant": "string",  # the published row
    "granularity": "string",
    "rho": "float64",
    "published": "float64",
    "reading": "string",  # a key of READINGS
    "our_variant": "string",  # that it is compared with
    "mean": "float64",  # ours
    "sd": "float64",
    "n": "Int64",
    "n_diverged": "Int64",
    "n_failed": "Int64",
    "n_missing": "Int64",
    "difference": "float64",  # mean - published; missing between different quantities
    "source": "string",
}

_LEGEND = (
    "Difference: our mean minus the published value. By name: the published row as it is called; "
    f"as coded: as the published code computes it. {MISSING} is no number; blank: no difference "
    "is formed."
)

_FORMATS = {"accuracy": two_decimals, "sharpness": significant}
_COUNTS = ("n", "n_diverged", "n_failed", "n_missing")
#: Of a cell that is not there.
_NOTHING: Values = {"mean": np.nan, "sd": np.nan, **dict.fromkeys(_COUNTS, 0)}

#: Model, optimizer, granularity and rho, as texts.
_Key = tuple[str, str, str, str]


class _Ours(NamedTuple):
    """What of ours stands beside a publication's numbers."""

    recipe: str | None  # its title; None where no cell is of the publication's data set
    quantity: str
    label: str | None = None  # of the measurement, for sharpness
    rows: Mapping[_Key, Values] = {}  # of a summary
    same: bool = False  # whether it is the published quantity, so that differences are formed
    notes: tuple[str, ...] = ()  # what a reader must know, in sentences


def comparison_page(study: Study, reference: str = "empirical_sam") -> Page:
    """A study beside a publication that is one of :func:`.references`."""
    published = load_reference(reference)
    compared = [(ours, _compare(published, ours)) for ours in _ours(study, published)]
    sections = [section for ours, found in compared for section in _sections(ours, found)]

    rows = [row for _, found in compared for row in found]
    data = pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS), dtype="object")
    source, protocol, *others = about(published)
    told = Section(heading="The publication", text=(source, f"Protocol: {protocol}", *others))
    return Page(
        name="comparison",
        title=f"Published values beside study {study.name}",
        legend=_LEGEND,
        sections=(*sections, told),
        data=data.astype(dict(COMPARISON_COLUMNS)),
    )


# --------------------------------------------------------------------------- ours


def _ours(study: Study, published: pd.DataFrame) -> Iterator[_Ours]:
    dataset = published.attrs["dataset"]
    runs = study.runs[_of_same_images(study.runs, published)]
    if runs.empty:
        there = ", ".join(sorted(study.runs["dataset"].unique()))
        note = (
            f"The publication is on {dataset}; this study has {there}. Numbers of different data "
            "sets have no difference, so ours are left open."
        )
        yield _Ours(None, "accuracy", notes=(note,))
        yield _Ours(None, "sharpness", notes=(note,))
        return
    joined = join_measurements(runs, study.measurements)
    for title, cells in split_by_recipe(runs):
        notes = _deviations(cells.iloc[0].to_dict(), published.attrs["recipe"])
        notes += (_FOLDER_NOTE,) * (cells["dataset"].iloc[0] != dataset)
        found = _by_cell(summarize(cells, published.attrs["accuracy_column"]))
        yield _Ours(title, "accuracy", rows=found, same=True, notes=notes)
        measured = joined[joined["recipe_key"] == cells["recipe_key"].iloc[0]]
        yield from _our_sharpness(title, measured, published.attrs["sharpness_measure"], notes)


#: Of an image folder that holds the publication's images.
_FOLDER_NOTE = (
    "Ours are the same images in a folder; the validation images are another tenth of the training "
    "set than in either the publication or the data set of that name here."
)


def _of_same_images(runs: pd.DataFrame, published: pd.DataFrame) -> pd.Series[bool]:
    """Which cells were trained on the publication's images, by name or by what a folder holds."""
    folder = (runs["dataset"] == "image_folder") & runs["fingerprint"].isin(
        published.attrs["same_images"]
    )
    named: pd.Series[bool] = runs["dataset"] == published.attrs["dataset"]
    return named | folder


def _our_sharpness(
    title: str, measured: pd.DataFrame, same_measure: str, notes: tuple[str, ...]
) -> Iterator[_Ours]:
    # A trace, say, is too unlike the published sharpness to stand beside it.
    names = [name for name in measured["name"].unique() if gives_largest_eigenvalue(name)]
    shown = measured[measured["name"].isin([*names, same_measure])]
    if shown.empty:
        yield _Ours(title, "sharpness", notes=(*notes, "Sharpness is not measured yet."))
    for label, rows in shown.groupby("settings_label"):
        same = bool((rows["name"] == same_measure).all())
        other = (
            f"Ours is another quantity than the published sharpness ({label}, not "
            f"{same_measure}), so no difference is formed."
        )
        told = notes if same else (*notes, other)
        yield _Ours(title, "sharpness", str(label), _by_cell(summarize(rows, "value")), same, told)


def _deviations(recipe: Values, published: Mapping[str, Any]) -> tuple[str, ...]:
    """One sentence on where our recipe is not the published one."""
    differing = [
        f"{name.replace('_', ' ')} {setting_text(recipe[name])} (published: {setting_text(value)})"
        for name, value in published.items()
        if pd.isna(recipe[name]) or recipe[name] != value
    ]
    if not differing:
        return ("Our recipe is the published one, as far as that is stated.",)
    return (f"Our recipe is another than the published one: {', '.join(differing)}.",)


def _by_cell(summary: pd.DataFrame) -> dict[_Key, Values]:
    rows = summary.to_dict("records")
    return {_key(row, row["optimizer"], rho_text(row["rho"])): row for row in rows}


def _key(row: Values, optimizer: str, rho: str) -> _Key:
    return row["model"], optimizer, or_blank(row["granularity"]), rho


# --------------------------------------------------------------------------- side by side


def _compare(published: pd.DataFrame, ours: _Ours) -> list[dict[str, Any]]:
    """A row per published number and reading: the page's data, and how the table shows them."""
    return [
        _compare_one(row, reading, ours)
        for row in published[published["quantity"] == ours.quantity].to_dict("records")
        for reading in READINGS
    ]


def _compare_one(row: Values, reading: str, ours: _Ours) -> dict[str, Any]:
    variant, form = row[READINGS[reading]], _FORMATS[ours.quantity]
    # The label without additions is the usual variant: plain ascent, Hutchinson's curvature.
    found = ours.rows.get(_key(row, variant.upper(), rho_text(row["rho"])), _NOTHING)
    difference = found["mean"] - row["value"] if ours.same else np.nan
    return {
        **row,
        "recipe": ours.recipe,
        "settings_label": ours.label,
        "published": row["value"],
        "reading": reading,
        "our_variant": variant,
        **{name: found[name] for name in ("mean", "sd", *_COUNTS)},
        "difference": difference,
        "shown": {
            f"ours, {reading}": cell_text(found, form),
            f"difference, {reading}": "" if pd.isna(difference) else _signed(form(difference)),
        },
    }


def _sections(ours: _Ours, rows: list[dict[str, Any]]) -> Iterator[Section]:
    what = "Test accuracy (%) at best validation" if ours.quantity == "accuracy" else "Sharpness"
    where = ", ".join(part for part in (ours.label, ours.recipe) if part)
    yield Section(heading=f"{what}: {where}" if where else what, text=ours.notes)
    for model in dict.fromkeys(row["model"] for row in rows):
        table = [row for row in rows if row["model"] == model]
        yield Section(heading=model, level=3, table=_table(table))


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The readings of each published number side by side."""
    shown = []
    # The readings of a number follow each other.
    for start in range(0, len(rows), len(READINGS)):
        first, value = rows[start], rows[start]["published"]
        form = _FORMATS[first["quantity"]]
        shown.append(
            {
                "optimizer": first["variant"].upper(),
                "granularity": or_blank(first["granularity"]),
                "rho": rho_text(first["rho"]),
                "published": MISSING if pd.isna(value) else form(value),
            }
        )
        for row in rows[start : start + len(READINGS)]:
            shown[-1] |= row["shown"]
    return pd.DataFrame(shown)


def _signed(text: str) -> str:
    return text if text.startswith("-") else f"+{text}"
