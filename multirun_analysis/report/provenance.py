"""What a study asked and trained, and where its numbers come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pandas as pd

from multirun_analysis.stats.summary import split_by_recipe
from multirun_analysis.tables.entries import or_blank
from multirun_analysis.tables.pages import Page, Section
from multirun_analysis.wording.numbers import number
from samsweep.records.schema import FINISHED, Provenance, Record

#: Cells and commands that are named; of more, the number.
_MOST_NAMED = 50

#: Of direction and magnitude, from fine to coarse.
_GRANULARITIES = {
    "element": "each element",
    "tensor": "each tensor",
    "global": "the whole gradient",
}

QUESTION = (
    "Sharpness-Aware Minimization (SAM) takes each step with the gradient h at a point uphill, "
    "w + ε, in place of the gradient g at the weights w. The two differ in direction and in "
    "magnitude. Which of the two makes the minima flat, and the networks accurate?",
    "The optimizer SAMDIRECTION takes SAM's direction with SGD's magnitude, SAMMAGNITUDE SGD's "
    "direction with SAM's magnitude. What a direction is depends on the granularity: of each "
    "element, of each tensor, or of the whole gradient.",
)


def question(runs: pd.DataFrame) -> tuple[str, ...]:
    """The question, and at which granularities a study asks it."""
    hybrids = runs.loc[runs["direction"] != runs["magnitude"], "granularity"]
    asked = [words for name, words in _GRANULARITIES.items() if name in set(hybrids.dropna())]
    return (*QUESTION, f"This study asks it of {' and of '.join(asked)}.") if asked else QUESTION


# --------------------------------------------------------------------------- design


def design(runs: pd.DataFrame) -> Page:
    """What was trained: each optimizer with its formula, radii, models and seeds, per recipe."""
    tables = {title: _design_table(cells) for title, cells in split_by_recipe(runs)}
    return Page(
        name="design",
        title="What was trained",
        legend="g is the gradient of a mini-batch at w, h that of the same mini-batch at w + "
        "epsilon. The formula is the vector handed to the base optimizer.",
        sections=tuple(Section(heading=title, table=table) for title, table in tables.items()),
        data=pd.concat(tables.values(), ignore_index=True),
    )


def _design_table(cells: pd.DataFrame) -> pd.DataFrame:
    keys = ["optimizer", "granularity", "formula"]
    rows = [
        {
            "optimizer": group["optimizer"].iloc[0],
            "granularity": or_blank(group["granularity"].iloc[0]),
            "vector": group["formula"].iloc[0],
            "rho": ", ".join(number(rho) for rho in sorted(group["rho"].dropna().unique())),
            "models": ", ".join(group["model"].unique()),
            "seeds": ranges(group["seed"]),
            "cells": str(len(group)),
        }
        for _, group in cells.groupby(keys, dropna=False, sort=True)
    ]
    return pd.DataFrame(rows, dtype="object")


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers in few letters.

    >>> ranges([0, 1, 2, 5, 7, 8])
    '0–2, 5, 7–8'
    """
    runs: list[list[int]] = []
    for value in sorted({int(value) for value in numbers}):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(f"{a}–{b}" if a < b else f"{a}" for a, b in runs)


# --------------------------------------------------------------------------- provenance


def provenance(runs: pd.DataFrame, measurements: pd.DataFrame, records: Iterable[Record]) -> Page:
    """Where a study's numbers come from, and which cells have none."""
    origins = _origins(runs)
    latest = [record.attempts[-1].provenance for record in records if record.attempts]
    sections = [
        Section(heading="Code and machines", text=_dirty_warning(runs), table=origins),
        Section(heading="Versions", table=_versions(latest)),
        Section(heading="Commands", table=_commands(latest)),
        Section(
            heading="Measurements",
            text=() if len(measurements) else ("Nothing was measured yet.",),
            table=_settings(measurements) if len(measurements) else None,
        ),
        _without_result(runs),
    ]
    return Page(
        name="provenance",
        title="Where the numbers come from",
        legend=f"Of the latest attempt at each cell. Seeds: {ranges(runs['seed'].dropna())}.",
        sections=tuple(sections),
        data=origins,
    )


def _origins(runs: pd.DataFrame) -> pd.DataFrame:
    """Commit, state, results version, machine and device, with the numbers of their cells."""
    states = {True: "changed since the commit", False: "clean"}
    shown = pd.DataFrame(
        {
            "commit": runs["git_commit"],
            "source": runs["git_dirty"].astype("object").map(states),
            "RESULTS_VERSION": runs["results_version"].astype("string"),
            "host": runs["host"],
            "device": runs["device"],
        },
        dtype="object",
    ).fillna("unknown")
    # A cell without an attempt was touched by no machine.
    worked = shown.assign(seconds=runs["seconds"])[runs["host"].notna()]
    groups = worked.groupby([*shown.columns], sort=False, as_index=False)
    found = groups.agg(cells=("seconds", "size"), hours=("seconds", "sum"))
    return found.assign(
        cells=found["cells"].astype(str), hours=[f"{s / 3600:.2f}" for s in found["hours"]]
    ).astype("object")


def _dirty_warning(runs: pd.DataFrame) -> tuple[str, ...]:
    dirty = int(runs["git_dirty"].fillna(False).astype(bool).sum())
    trained = "cell was trained" if dirty == 1 else "cells were trained"
    return (f"{dirty} {trained} by source that differed from its commit.",) if dirty else ()


def _versions(latest: Iterable[Provenance]) -> pd.DataFrame:
    found = (version for one in latest for version in one.versions.items())
    return _counted(found, ["library", "version"])


def _commands(latest: Iterable[Provenance]) -> pd.DataFrame:
    return _counted(((one.command,) for one in latest), ["command"])


def _counted(rows: Iterable[tuple[str, ...]], keys: list[str]) -> pd.DataFrame:
    """The first of the different rows, each with the number of cells that have it."""
    cells = Counter(rows).items()
    found = [(*row, str(count)) for row, count in cells]
    return pd.DataFrame(found, columns=[*keys, "cells"], dtype="object").head(_MOST_NAMED)


def _settings(measurements: pd.DataFrame) -> pd.DataFrame:
    rows = [
        {
            "measurement": label,
            "cells": str(group["cell_id"].nunique()),
            "not converged": str(int((~group["converged"].fillna(True).astype(bool)).sum())),
            "device": ", ".join(sorted(group["measured_on"].dropna().unique())),
        }
        for label, group in measurements.groupby("settings_label")
    ]
    return pd.DataFrame(rows, dtype="object")


def _without_result(runs: pd.DataFrame) -> Section:
    """The cells that are not complete, diverged ones first."""
    lost = runs[runs["status"] != "complete"]
    heading = "Cells without a result"
    if lost.empty:
        return Section(heading=heading, text=(f"None: complete are {len(runs)} of {len(runs)}.",))
    counts = ", ".join(f"{n} {status}" for status, n in lost["status"].value_counts().items())
    first = lost.assign(unfinished=~lost["status"].isin(FINISHED)).sort_values("unfinished")
    rows = [
        {"status": cell["status"], "cell": cell["cell_id"], "why": _last_line(cell["error"])}
        for cell in first.head(_MOST_NAMED).to_dict("records")
    ]
    more = len(lost) - len(rows)
    text = [f"{len(lost)} of {len(runs)} cells: {counts}."]
    text += [f"The first {len(rows)} are named."] * (more > 0)
    return Section(heading=heading, text=tuple(text), table=pd.DataFrame(rows, dtype="object"))


def _last_line(error: Any) -> str:
    return error.strip().rpartition("\n")[2] if isinstance(error, str) else ""
