"""What a value that cannot be run ends in: one sentence for each problem."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """A value that cannot be run: one sentence per problem.

    Args:
        problems: Sentences that each name the value, what is allowed and the remedy.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> str:
    """The sentence about a name that nothing answers to, with the nearest valid one."""
    valid = sorted(choices)
    if not valid:
        return f"{kind} {name!r} is unknown."
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{kind} {name!r} is unknown: {hint}choose one of {', '.join(valid)}."
