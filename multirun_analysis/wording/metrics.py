"""What networks are scored by, in words: a metric's name, and which of two values is better.

A record's ``test_accuracy`` and its like hold the recipe's metric. Of one that is not registered
here its name alone is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from samsweep.config import METRICS
from samsweep.config.cell import call_text


class Scored(NamedTuple):
    """What the values of a table are."""

    label: str  # with its unit, ``accuracy (%)``
    better: Literal["high", "low"] | None  # None where that is not known, or not one for all
    in_percent: bool


def scored_by(metrics: Iterable[str]) -> Scored:
    """The words for the metrics of some cells: the metric's own where it is one.

    >>> scored_by(["accuracy", "accuracy"])
    Scored(label='accuracy (%)', better='high', in_percent=True)
    >>> scored_by(["mae"]).better, scored_by(["mae", "r2"]).label
    ('low', 'metric')
    """
    names = sorted(set(metrics))
    if len(names) != 1:
        return Scored("metric", None, False)
    info = METRICS.get(names[0])
    if info is None:
        return Scored(call_text(names[0], None), None, False)
    label = info.label or names[0]
    return Scored(
        f"{label} ({info.unit})" if info.unit else label,
        "high" if info.higher_is_better else "low",
        info.unit == "%",
    )
