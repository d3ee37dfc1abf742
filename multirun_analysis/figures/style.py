"""One style of figures, and one style for each optimizer in all of them.

Colour and marker show the variant, line and filling the granularity, so that series differ without
colour as well. The colours are those of Okabe and Ito (2008), which the colour-blind distinguish.
Text is never taken for mathematics: names come from records, and so from anywhere.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, TypeVar

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colorbar import Colorbar
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from multirun_analysis.wording.numbers import number

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#767676"

#: Dots per inch of a PNG, and of what is drawn as pixels inside an SVG.
DPI = 150
#: Width in inches: the text of a page, and what a screen shows without scrolling.
WIDTH = 9.0
#: Points of one kind beyond which an SVG holds them as pixels.
MOST_VECTORS = 1000

_RC: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters everywhere
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "figure.facecolor": "white",
    "figure.dpi": DPI,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "text.parse_math": False,
    # Ids inside an SVG follow from its content.
    "svg.hashsalt": "samsweep",
    # Letters as outlines: no font is needed to read the file.
    "svg.fonttype": "path",
}

T = TypeVar("T")

#: Decorates a function to run in the style of the figures, and to leave matplotlib as it was.
styled = matplotlib.rc_context(_RC)


# --------------------------------------------------------------------------- styles


@dataclass(frozen=True)
class SeriesStyle:
    """What a series is drawn with."""

    colour: str
    marker: str
    line: str | tuple[float, tuple[float, ...]]
    filling: str = "full"

    @property
    def line_style(self) -> dict[str, Any]:
        """Keywords of a line without markers."""
        return {"color": self.colour, "linestyle": self.line}

    @property
    def marker_style(self) -> dict[str, Any]:
        """Keywords of a line's markers."""
        return {
            "marker": self.marker,
            "fillstyle": "left" if self.filling == "left" else "full",
            "markerfacecolor": "white" if self.filling == "none" else self.colour,
            "markerfacecoloralt": "white",
            "markeredgecolor": self.colour,
            "markersize": 5.0,
        }


_VARIANTS: Mapping[str, SeriesStyle] = {
    "sgd": SeriesStyle(BLACK, "X", (0, (1, 1.2))),
    "sgdhess": SeriesStyle(PURPLE, "P", (0, (6, 1.5, 1, 1.5, 1, 1.5))),
    "sam": SeriesStyle(BLUE, "o", "-"),
    "samdirection": SeriesStyle(ORANGE, "^", "-"),
    "sammagnitude": SeriesStyle(GREEN, "s", "-"),
    "asam": SeriesStyle(SKY, "D", (0, (9, 2))),
}
_OTHER = SeriesStyle(VERMILLION, "v", "-")
_GRANULARITIES: Mapping[str, tuple[str | tuple[float, tuple[float, ...]], str]] = {
    "element": ("-", "full"),
    "tensor": ((0, (4, 1.2, 1, 1.2)), "left"),
    "global": ((0, (4, 1.6)), "none"),
}
#: Of a variant's further labels, such as SAMDIRECTION (adaptive).
_FURTHER_MARKERS = ("p", "h", "d", "<", ">", "*")


def variant_style(variant: str, granularity: str | None = None) -> SeriesStyle:
    """The style of a variant at a granularity, None where it has none."""
    style = _VARIANTS.get(variant, _OTHER)
    if granularity is None:
        return style
    line, filling = _GRANULARITIES.get(granularity, ("-", "full"))
    return replace(style, line=line, filling=filling)


class Palette:
    """The style of every optimizer of a study."""

    def __init__(self, runs: pd.DataFrame) -> None:
        labels = runs[["variant", "optimizer"]].drop_duplicates().dropna()
        self._further: dict[str, int] = {}
        for variant, rows in labels.groupby("variant"):
            plain = str(variant).upper()
            others = sorted(name for name in rows["optimizer"] if name != plain)
            self._further |= {name: k for k, name in enumerate(others, start=1)}

    def style(self, optimizer: str, variant: str, granularity: str | None = None) -> SeriesStyle:
        """The style of an optimizer's label at a granularity."""
        style = variant_style(variant, granularity)
        k = self._further.get(optimizer, 0)
        if not k:
            return style
        marker = _FURTHER_MARKERS[(k - 1) % len(_FURTHER_MARKERS)]
        return replace(style, marker=marker, colour=mixed(style.colour, BLACK, min(0.7, 0.3 * k)))


def mixed(colour: str, other: str, share: float) -> str:
    """A colour with a share of another in it, from 0 to 1."""
    (r, g, b), (x, y, z) = to_rgb(colour), to_rgb(other)
    keep = 1 - share
    return to_hex((keep * r + share * x, keep * g + share * y, keep * b + share * z))


def shade(colour: str, rank: int, of: int) -> str:
    """The colour of the rank-th of some radii, from pale for the smallest to full."""
    return mixed(colour, "#FFFFFF", 0.65 * (1 - rank / (of - 1))) if of > 1 else colour


# --------------------------------------------------------------------------- figures


def new_figure(
    rows: int, columns: int, row_height: float, extra: float = 1.0
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of panels; a column that stands alone is less wide."""
    width = min(WIDTH, 1.2 + 3.9 * columns)
    size = (width, rows * row_height + extra)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(row) for row in grid]


@styled
def titled(figure: Figure, title: str, below: str) -> Figure:
    """The figure with its title, and what it is of, at the top left, laid out once and for all.

    Every file of it is the same one then.
    """
    wide = int(14.5 * figure.get_figwidth())
    lines = textwrap.wrap(below, wide, max_lines=3, placeholder=" …")
    figure.suptitle("\n".join([title, *lines]), x=0.01, ha="left", fontsize=9, linespacing=1.4)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine(None)  # "none" would stay in place, and draw everything twice
    return figure


def add_legend(figure: Figure, *groups: Mapping[str, Any]) -> None:
    """One legend for all panels, below them; each group begins a row, and is read along it."""
    longest = max((len(label) for group in groups for label in group), default=1)
    fitting = max(1, int(13.5 * figure.get_figwidth() / (longest + 7)))
    rows = [row for group in groups for row in _even_rows(list(group.items()), fitting)]
    columns = max(map(len, rows), default=1)
    blank = ("", Line2D([], [], linestyle=""))
    # Legends are filled column by column.
    entries = [row[k] if k < len(row) else blank for k in range(columns) for row in rows]
    figure.legend(
        [sample for _, sample in entries],
        [label for label, _ in entries],
        loc="outside lower center",
        ncols=columns,
        handlelength=2.8,
        columnspacing=1.6,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0.3)},
    )


def _even_rows(items: Sequence[T], most: int) -> list[Sequence[T]]:
    """Items in as few rows of at most some as they need, of nearly equal lengths."""
    length = math.ceil(len(items) / max(1, math.ceil(len(items) / most)))
    return [items[start : start + length] for start in range(0, len(items), length or 1)]


def handle(style: SeriesStyle) -> Line2D:
    """A legend's sample of a series with markers."""
    return Line2D([], [], **style.line_style, **style.marker_style)


def add_bar(
    figure: Figure, grid: list[list[Axes]], shades: Any, label: str, share: float, **options: Any
) -> Colorbar:
    """A bar of the shades beside all panels, as high as a share of them or four inches."""
    bar = figure.colorbar(
        shades,
        ax=[axes for line in grid for axes in line],
        shrink=min(share, 4 / figure.get_figheight()),
        aspect=25,
        pad=0.01,
        **options,
    )
    bar.set_label(label)
    bar.outline.set_visible(False)
    return bar


def svg_bytes(figure: Figure) -> bytes:
    """The figure as SVG, the same bytes whenever and wherever it is drawn."""
    return _saved(figure, format="svg", metadata={"Date": None, "Creator": None})


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG of :data:`DPI`."""
    return _saved(figure, format="png", metadata={"Software": None})


@styled
def _saved(figure: Figure, **options: Any) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, dpi=DPI, **options)
    return buffer.getvalue()


# --------------------------------------------------------------------------- axes


def rho_axis(axes: Axes, rhos: Iterable[float], label: str) -> None:
    """A logarithmic axis of radii with a tick at each of them, also at 0."""
    values = sorted(set(rhos))
    positive = [rho for rho in values if rho > 0]
    if len(values) > len(positive):
        axes.set_xscale("symlog", linthresh=positive[0] if positive else 1.0, linscale=0.5)
    else:
        axes.set_xscale("log")
    scale = axes.xaxis.get_transform()
    places = [float(scale.transform([rho])[0]) for rho in values]
    room = 0.16 * (places[-1] - places[0]) or 0.3
    left, right = scale.inverted().transform([places[0] - room, places[-1] + room])
    axes.set_xlim(float(left), float(right))
    shown = apart(dict(zip(places, values, strict=True)), (places[-1] - places[0]) / 8)
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(round(value, 12))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)


def log_axis(axes: Axes, low: float, high: float, *, powers: bool = False) -> None:
    """A logarithmic y axis with ticks at 10, 20, 50, 100, or at powers of ten alone."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    subs = (1.0, 2.0, 5.0) if not powers and math.log10(high / low) < 2.5 else (1.0,)
    text = power_of_ten if powers else number
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=6 if powers else 12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axes.yaxis.set_minor_locator(NullLocator())


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power_of_ten(value: float) -> str:
    """A power of ten as text, without mathematics: 10⁻³."""
    return f"10{str(round(math.log10(value))).translate(_SUPERSCRIPTS)}"


def thinned(values: Sequence[float], most: int) -> list[float]:
    """At most some values of a sequence, evenly, with the first and the last."""
    if len(values) <= most:
        return list(values)
    step = (len(values) - 1) / (most - 1)
    return [values[round(k * step)] for k in range(most)]


def apart(values: Mapping[float, float], gap: float) -> list[float]:
    """The values whose places are some gap apart, from the last one down."""
    places = sorted(values, reverse=True)
    kept = places[:1]
    for place in places[1:]:
        if kept[-1] - place >= gap:
            kept.append(place)
    return [values[place] for place in reversed(kept)]
