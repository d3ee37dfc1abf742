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

from multirun_analysis.references import load_reference
from multirun_analysis.runs.measurements import gives_largest_eigenvalue
from multirun_analysis.stats.summary import join_measurements, split_by_recipe, summarize
from multirun_analysis.study import Study
from multirun_analysis.tables.entries import (
    MISSING,
    Format,
    cell_text,
    or_blank,
    significant,
    two_decimals,
)
from multirun_analysis.tables.pages import Page, Section
from multirun_analysis.wording.labels import Values, setting_text
from multirun_analysis.wording.numbers import number

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

_FORMATS: Mapping[str, Format] = {"accuracy": two_decimals, "sharpness": significant}
_COUNTS = ("n", "n_diverged", "n_failed", "n_missing")


class Ours(NamedTuple):
    """What of ours stands beside a publication's numbers.

    Args:
        recipe: Title of the recipe, or None where no cell is of the publication's data set.
        quantity: accuracy or sharpness.
        label: The measurement's, for sharpness.
        rows: Of a summary, by model, optimizer, granularity and rho.
        same: Whether it is the published quantity, so that differences are formed.
        notes: What a reader must know, in sentences.
    """

    recipe: str | None
    quantity: str
    label: str | None = None
    rows: Mapping[tuple[str, str, str, str], Values] = {}
    same: bool = False
    notes: tuple[str, ...] = ()


def comparison_page(study: Study, reference: str = "empirical_sam") -> Page:
    """A study beside a publication.

    Raises:
        ValueError: If there is no such publication.
    """
    published = load_reference(reference)
    ours = list(_ours(study, published))
    compared = [_compare(published, one) for one in ours]
    sections = [
        section
        for one, rows in zip(ours, compared, strict=True)
        for section in _sections(one, rows)
    ]
    return Page(
        name="comparison",
        title=f"Published values beside study {study.name}",
        legend=_LEGEND,
        sections=(*sections, _about(published)),
        data=pd.concat([_frame(rows) for rows in compared], ignore_index=True),
    )


def _about(published: pd.DataFrame) -> Section:
    about = published.attrs
    return Section(
        heading="The publication",
        text=(
            about["source"],
            f"Protocol: {about['protocol']}",
            *about["readings"].values(),
            *about["caveats"],
        ),
    )


# --------------------------------------------------------------------------- ours


def _ours(study: Study, published: pd.DataFrame) -> Iterator[Ours]:
    dataset = published.attrs["dataset"]
    runs = study.runs[_of_same_images(study.runs, published)]
    if runs.empty:
        there = ", ".join(sorted(study.runs["dataset"].unique()))
        note = (
            f"The publication is on {dataset}; this study has {there}. Numbers of different data "
            "sets have no difference, so ours are left open."
        )
        yield Ours(None, "accuracy", notes=(note,))
        yield Ours(None, "sharpness", notes=(note,))
        return
    joined = join_measurements(runs, study.measurements)
    for title, cells in split_by_recipe(runs):
        notes = _deviations(cells.iloc[0].to_dict(), published.attrs["recipe"])
        notes += (_FOLDER_NOTE,) * (cells["dataset"].iloc[0] != dataset)
        column = published.attrs["accuracy_column"]
        yield Ours(title, "accuracy", None, _by_cell(summarize(cells, column)), True, notes)
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
) -> Iterator[Ours]:
    # A trace, say, is too unlike the published sharpness to stand beside it.
    names = [name for name in measured["name"].unique() if gives_largest_eigenvalue(name)]
    shown = measured[measured["name"].isin([*names, same_measure])]
    if shown.empty:
        yield Ours(title, "sharpness", notes=(*notes, "Sharpness is not measured yet."))
    for label, rows in shown.groupby("settings_label"):
        same = bool((rows["name"] == same_measure).all())
        other = (
            f"Ours is another quantity than the published sharpness ({label}, not "
            f"{same_measure}), so no difference is formed."
        )
        yield Ours(
            title,
            "sharpness",
            str(label),
            _by_cell(summarize(rows, "value")),
            same,
            notes if same else (*notes, other),
        )


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


def _by_cell(summary: pd.DataFrame) -> dict[tuple[str, str, str, str], Values]:
    return {
        _key(row["model"], row["optimizer"], row["granularity"], row["rho"]): row
        for row in summary.to_dict("records")
    }


def _key(model: str, optimizer: str, granularity: object, rho: float) -> tuple[str, str, str, str]:
    return model, optimizer, or_blank(granularity), "" if pd.isna(rho) else number(rho)


# --------------------------------------------------------------------------- side by side


def _compare(published: pd.DataFrame, ours: Ours) -> list[dict[str, Any]]:
    """A row per published number and reading, in the columns of the page's data and a text."""
    return [
        _compare_one(row, reading, ours)
        for row in published[published["quantity"] == ours.quantity].to_dict("records")
        for reading in READINGS
    ]


def _compare_one(row: Values, reading: str, ours: Ours) -> dict[str, Any]:
    variant = row[READINGS[reading]]
    # The label without additions is the usual variant: plain ascent, Hutchinson's curvature.
    found = ours.rows.get(_key(row["model"], variant.upper(), row["granularity"], row["rho"]))
    mean = found["mean"] if found is not None else np.nan
    return {
        "recipe": ours.recipe,
        "settings_label": ours.label,
        **{name: row[name] for name in ("quantity", "table", "model", "variant", "granularity")},
        "rho": row["rho"],
        "published": row["value"],
        "reading": reading,
        "our_variant": variant,
        "mean": mean,
        "sd": found["sd"] if found is not None else np.nan,
        **{name: found[name] if found is not None else 0 for name in _COUNTS},
        "difference": mean - row["value"] if ours.same else np.nan,
        "source": row["source"],
        "text": MISSING if found is None else cell_text(found, _FORMATS[ours.quantity]),
    }


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    columns = list(COMPARISON_COLUMNS)
    return pd.DataFrame(rows, columns=columns, dtype="object").astype(dict(COMPARISON_COLUMNS))


def _sections(ours: Ours, rows: list[dict[str, Any]]) -> Iterator[Section]:
    what = "Test accuracy (%) at best validation" if ours.quantity == "accuracy" else "Sharpness"
    where = ", ".join(part for part in (ours.label, ours.recipe) if part)
    yield Section(heading=f"{what}: {where}" if where else what, text=ours.notes)
    for model in dict.fromkeys(row["model"] for row in rows):
        table = [row for row in rows if row["model"] == model]
        yield Section(heading=model, level=3, table=_table(table, _FORMATS[ours.quantity]))


def _table(rows: list[dict[str, Any]], form: Format) -> pd.DataFrame:
    """The readings of each published number side by side."""
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        key = _key(row["table"], row["variant"], row["granularity"], row["rho"])
        cell = cells.setdefault(
            key,
            {
                "optimizer": row["variant"].upper(),
                "granularity": or_blank(row["granularity"]),
                "rho": "" if pd.isna(row["rho"]) else number(row["rho"]),
                "published": MISSING if pd.isna(row["published"]) else form(row["published"], None),
            },
        )
        cell[f"ours, {row['reading']}"] = row["text"]
        cell[f"difference, {row['reading']}"] = _signed(row["difference"], form)
    return pd.DataFrame(cells.values())


def _signed(difference: float, form: Format) -> str:
    if pd.isna(difference):
        return ""
    text = form(difference, None)
    return text if text.startswith("-") else f"+{text}"
