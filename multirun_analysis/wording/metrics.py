"""What networks are judged by, in words: a metric's name, and which of two values is better.

A record's ``test_accuracy`` and its like hold the recipe's metric. Of one that is not registered
here its name alone is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from samsweep.config import METRICS
from samsweep.config.cell import call_text


class Judged(NamedTuple):
    """What the values of a table are."""

    label: str  # with its unit, ``accuracy (%)``
    better: Literal["high", "low"] | None  # None where that is not known, or not one for all
    in_percent: bool


def judged_by(metrics: Iterable[str]) -> Judged:
    """The words for the metrics of some cells: the metric's own where it is one.

    >>> judged_by(["accuracy", "accuracy"])
    Judged(label='accuracy (%)', better='high', in_percent=True)
    >>> judged_by(["mae"]).better, judged_by(["mae", "r2"]).label
    ('low', 'metric')
    """
    names = sorted(set(metrics))
    if len(names) != 1:
        return Judged("metric", None, False)
    info = METRICS.get(names[0])
    if info is None:
        return Judged(call_text(names[0], None), None, False)
    label = info.label or names[0]
    return Judged(
        f"{label} ({info.unit})" if info.unit else label,
        "high" if info.higher_is_better else "low",
        info.unit == "%",
    )
