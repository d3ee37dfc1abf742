"""Numbers as text: shortest forms, signs, intervals and p-values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any

import pandas as pd


def number(value: float) -> str:
    """The shortest text of a number from which it can be read back.

    >>> number(0.4), number(1.0), number(0.0001)
    ('0.4', '1', '1e-4')
    """
    text = repr(float(value))
    if 0 < abs(value) < 1e-3:
        return f"{Decimal(text):e}"
    return text.removesuffix(".0")


def signed(value: float, decimals: int) -> str:
    """A number with its sign, a minus as long as a plus.

    >>> signed(-0.746, 2), signed(0.746, 2), signed(-0.0001, 2)
    ('−0.75', '+0.75', '0.00')
    """
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def interval_text(row: Mapping[Any, Any]) -> str:
    """An estimate with its t interval, to two significant digits of the interval's half-width.

    >>> interval_text({"estimate": -0.746, "t_low": -0.942, "t_high": -0.550})
    '−0.75 [−0.94, −0.55]'
    >>> interval_text({"estimate": 1.5, "t_low": float("nan"), "t_high": float("nan")})
    '+1.50'
    >>> interval_text({"estimate": 0.00123, "t_low": 0.00011, "t_high": 0.00235})
    '+0.0012 [+0.0001, +0.0024]'
    >>> interval_text({"estimate": 12.0, "t_low": -100.0, "t_high": 124.0})
    '+12.00 [−100.00, +124.00]'
    """
    decimals = decimals_of(row)
    if pd.isna(row["t_low"]):
        return signed(row["estimate"], decimals)
    low, high = (signed(row[end], decimals) for end in ("t_low", "t_high"))
    return f"{signed(row['estimate'], decimals)} [{low}, {high}]"


def decimals_of(row: Mapping[Any, Any]) -> int:
    """Decimals that give two significant digits of an interval's half-width."""
    half = (row["t_high"] - row["t_low"]) / 2
    scale = abs(row["estimate"]) if pd.isna(half) else half
    return 2 if scale == 0 else min(8, max(2, 1 - math.floor(math.log10(scale))))


def p_text(p: float) -> str:
    """A p-value to two significant digits, never rounded down.

    >>> p_text(6 / 512), p_text(0.05), p_text(1.0), p_text(3 / 2**20)
    ('0.012', '0.05', '1', '2.9e-6')
    """
    # Ten digits first: 0.05 is stored as a little more than that.
    rounded = Context(prec=2, rounding=ROUND_CEILING).create_decimal(f"{p:.10g}")
    return number(float(rounded))
