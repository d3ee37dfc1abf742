"""Figures with their words, and the words that all of them share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text

from multirun_analysis.figures.style import png_bytes, svg_bytes, titled
from multirun_analysis.wording.metrics import scored_by
from multirun_analysis.wording.numbers import number


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure with its words."""

    name: str
    title: str
    figure: Figure
    caption: str
    alt: str

    @cached_property
    def svg(self) -> bytes:
        """The figure's file, drawn once."""
        return svg_bytes(self.figure)

    @cached_property
    def png(self) -> bytes:
        """The figure's pixels, drawn once."""
        return png_bytes(self.figure)


@dataclass(frozen=True)
class Recipe:
    """One recipe of the study."""

    title: str
    suffix: str  # of the names of its figures; empty where there is one recipe
    named: str  # what distinguishes the titles of its figures; empty likewise
    runs: pd.DataFrame  # its cells
    measured: pd.DataFrame  # with their measurements of the largest eigenvalue

    def picture(
        self,
        name: str,
        title: str,
        figure: Figure | None,
        caption: str,
        alt: str,
        *,
        model: str = "",
        several_models: bool = False,
        label: str = "",
        several_labels: bool = False,
    ) -> Iterator[Picture]:
        """The picture, or nothing where there is no figure.

        Args:
            name: Of its files, before what distinguishes model and recipe.
            title: Of the figure, which has none yet.
            figure: Or None.
            caption: How to read it; where its numbers come from is added.
            alt: What is to be seen.
            model: That it is of, if it is of one.
            several_models: Whether other models have such a figure too.
            label: The measurement that it is of, if any.
            several_labels: Whether other measurements have such a figure too.
        """
        if figure is None:
            return
        of_model = f" Model: {model}." if model else ""
        measured = f" Measurement: {label}." if label else ""
        if set(self.runs["metric"]) != {"accuracy"}:
            title, caption, alt = (self._in_its_metric(text) for text in (title, caption, alt))
            for text in figure.findobj(Text):
                text.set_text(self._in_its_metric(text.get_text()))
        caption = f"{caption}{of_model} Recipe: {self.title}.{measured}"
        yield Picture(
            name=f"{name}{f'-{slug(model)}' if several_models else ''}{self.suffix}",
            title=_joined(title, label * several_labels, model * several_models, self.named),
            figure=titled(figure, title, _joined(model, self.title, label)),
            caption=" ".join(caption.split()),
            alt=" ".join(alt.split()),
        )

    def _in_its_metric(self, text: str) -> str:
        """A text about accuracies, in the words of what the recipe's networks are scored by.

        Another metric comes with another loss than the cross-entropy, whose unit is the nat.
        """
        scored = scored_by(self.runs["metric"])
        bare = (
            text.replace("accuracy (%)", scored.label)
            .replace(" (nats)", "")
            .replace("\n(nats)", "")
        )
        name = scored.label.removesuffix(" (%)")
        return re.sub("[Aa]ccuracy", name, bare)


def slug(text: str) -> str:
    """A part of a file's name."""
    return re.sub(r"[^0-9A-Za-z_]+", "-", text)


def not_drawn(rhos: Sequence[float]) -> str:
    """Which radii are left out, for a caption."""
    return f" Not drawn: rho = {', '.join(map(number, rhos))}." if rhos else ""


def listed(texts: Sequence[str], most: int = 16) -> str:
    """What is to be seen of each line, as far as a text in place of a figure can hold it."""
    more = f"; and {len(texts) - most} more" if len(texts) > most else ""
    return f"{'; '.join(texts[:most])}{more}"


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
