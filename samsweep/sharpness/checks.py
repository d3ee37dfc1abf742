"""Arguments that several measures have in common, refused in one sentence."""

from __future__ import annotations


def check_positive(**numbers: float) -> None:
    """Refuse what is not above zero.

    Args:
        numbers: By the names of the arguments.

    Raises:
        ValueError: For the first of them.
    """
    for name, value in numbers.items():
        if not value > 0:
            raise ValueError(f"{name}={value}: choose a number above 0")


def check_samples(num_samples: int) -> None:
    """Refuse fewer random draws than a standard error needs.

    Raises:
        ValueError: For fewer than two.
    """
    if num_samples < 2:
        raise ValueError(f"num_samples={num_samples}: choose at least 2, for a standard error")
