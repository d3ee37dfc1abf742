"""Figures with their words, and the words that all of them share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from multirun_analysis.figures.style import titled


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure with its words."""

    name: str
    title: str
    figure: Figure
    caption: str
    alt: str


@dataclass(frozen=True)
class Recipe:
    """One recipe of the study.

    Args:
        title: Of the recipe.
        suffix: Of the names of its figures; empty where there is one recipe.
        named: What distinguishes the titles of its figures; empty likewise.
        runs: Its cells.
        measured: Its cells with their measurements of the largest eigenvalue.
    """

    title: str
    suffix: str
    named: str
    runs: pd.DataFrame
    measured: pd.DataFrame


def make_picture(
    name: str,
    title: str,
    figure: Figure | None,
    caption: str,
    alt: str,
    *,
    below: str,
    apart: Iterable[str] = (),
) -> Iterator[Picture]:
    """The picture, or nothing where there is no figure.

    Args:
        name: Of its files.
        title: Of the figure, in it and above its caption.
        figure: Without a title yet.
        caption: How to read it.
        alt: What is to be seen.
        below: What stands below the title in the figure: the recipe, and the measurement.
        apart: What distinguishes its title from those of other figures of its kind.
    """
    if figure is not None:
        yield Picture(
            name=name,
            title=joined(title, *apart),
            figure=titled(figure, title, below),
            caption=" ".join(caption.split()),
            alt=" ".join(alt.split()),
        )


def slug(text: str) -> str:
    """A part of a file's name."""
    return re.sub(r"[^0-9A-Za-z_]+", "-", text)


def joined(*parts: str) -> str:
    """Parts of a title, as far as there are any."""
    return "; ".join(part for part in parts if part)


def origin_of(recipe: str, measurement: str = "") -> str:
    """Where a figure's numbers come from."""
    return f"Recipe: {recipe}." + (f" Measurement: {measurement}." if measurement else "")
