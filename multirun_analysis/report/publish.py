"""Tables and figures of a study to one run of Weights & Biases.

Offline, which is the default, W&B writes files that ``wandb sync`` can upload later; it needs
neither account nor network. Nothing else of the analysis imports wandb.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import wandb

from multirun_analysis.study import Study
from multirun_analysis.tables.formats import to_html
from multirun_analysis.tables.pages import Page
from samsweep.records.identity import short_hash

Mode = Literal["offline", "online"]


class PublishError(RuntimeError):
    """W&B did not take the tables: what it said, and what to do."""


def publish(
    study: Study, pages: Iterable[Page], folder: Path, *, project: str, mode: Mode = "offline"
) -> str:
    """Push the tables and the figures to a run named after the study.

    Pushing again goes to the same run. Each page is logged as ``<page>/html`` and, where it has
    numbers, as a W&B table ``<page>/data``; each ``*.png`` of the folder as ``figures/<name>``.


    Offline runs are kept in the folder, which is that of the tables.

    Returns:
        Where the run is, in a sentence.

    Raises:
        PublishError: If W&B refuses, for want of an account or a connection.
    """
    try:
        run = wandb.init(
            mode=mode,
            project=project,
            id=f"tables-{short_hash({'study': study.name})}",
            name=study.name,
            job_type="tables",
            dir=str(folder),
            resume="allow",
            settings=wandb.Settings(silent=True, console="off"),
        )
        run.log({**_pages(pages), **_figures(folder)})
        run.summary.update(study.runs["status"].value_counts().astype(int).to_dict())
        run.finish()
    except wandb.Error as error:
        raise PublishError(
            f"W&B did not take the tables: {error} Log in with `wandb login`, or use wandb=offline."
        ) from None
    if mode == "online":
        return f"W&B run {study.name}: {run.url}"
    return f"W&B run {study.name}, offline; to upload it: wandb sync {Path(run.dir).parent}"


def _pages(pages: Iterable[Page]) -> dict[str, Any]:
    logged: dict[str, Any] = {}
    for page in pages:
        logged[f"{page.name}/html"] = wandb.Html(to_html(page), inject=False)
        if not page.data.empty:
            logged[f"{page.name}/data"] = _table(page.data)
    return logged


def _table(frame: pd.DataFrame) -> wandb.Table:
    """A frame as W&B takes it: plain values, None for what is missing."""
    plain = frame.astype("object")
    data = plain.where(plain.notna(), None).to_numpy()
    return wandb.Table(columns=[str(name) for name in frame], data=data, allow_mixed_types=True)


def _figures(folder: Path) -> dict[str, Any]:
    return {f"figures/{file.stem}": wandb.Image(str(file)) for file in sorted(folder.glob("*.png"))}
