"""Figures with their words, and the words that all of them share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure with its words.

    Args:
        name: Of its files, without suffix.
        title: In plain text, different from those of the study's other figures.
        figure: To be saved by :func:`.write_figures`.
        caption: How to read it, in plain text.
        alt: What is to be seen, for those who do not see it, in plain text.
    """

    name: str
    title: str
    figure: Figure
    caption: str
    alt: str


@dataclass(frozen=True)
class Recipe:
    """One recipe of the study.

    Args:
        title: For people.
        suffix: Of the names of its figures; empty where there is one recipe.
        named: What tells the titles of its figures apart; empty likewise.
        runs: Its cells.
        measured: Its cells with their measurements of the largest eigenvalue.
    """

    title: str
    suffix: str
    named: str
    runs: pd.DataFrame
    measured: pd.DataFrame


def make_picture(
    name: str, title: str, figure: Figure | None, caption: str, alt: str
) -> Iterator[Picture]:
    """The picture, or nothing where there is no figure."""
    if figure is not None:
        words = {"caption": " ".join(caption.split()), "alt": " ".join(alt.split())}
        yield Picture(name=name, title=title, figure=figure, **words)


def slug(text: str) -> str:
    """A part of a file's name."""
    return re.sub(r"[^0-9A-Za-z_]+", "-", text)


def full_title(title: str, *parts: str) -> str:
    """A title, and what tells it from that of another figure of its kind."""
    return "; ".join([title, *filter(None, parts)])


def joined(*parts: str) -> str:
    """What stands below the title."""
    return "; ".join(part for part in parts if part)


def origin_of(recipe: str, measurement: str = "") -> str:
    """Where a figure's numbers come from."""
    return f"Recipe: {recipe}." + (f" Measurement: {measurement}." if measurement else "")
