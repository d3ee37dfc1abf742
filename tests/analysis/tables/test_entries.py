"""Numbers and counts as the text of one cell."""

from __future__ import annotations

import pytest

from multirun_analysis.tables.entries import significant


@pytest.mark.parametrize(
    ("mean", "sd", "text"),
    [
        (53.2, None, "53.20"),
        (3737.54, None, "3738"),
        (12345.6, None, "12350"),
        (0.012346, None, "0.01235"),
        (-3.5, 0.25, "-3.500 ± 0.250"),
        (1.5e7, 2.0e6, "1.500e+07 ± 2.000e+06"),
        (1.5e-6, None, "1.500e-06"),
        (9.99996, None, "10.00"),
        (0.0, None, "0.000"),
    ],
)
def test_four_significant_digits(mean: float, sd: float | None, text: str) -> None:
    assert significant(mean, sd) == text
