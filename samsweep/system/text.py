"""What commands print, in one form."""

from __future__ import annotations

from typing import Any

from rich.console import Console

#: Brackets and colons in names are no markup.
_PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
#: Columns where there is no terminal that has some.
_PLAIN_WIDTH = 140


def console() -> Console:
    """Standard output; wide enough for tables where it is no terminal."""
    found = Console(**_PLAIN)
    return found if found.is_terminal else Console(width=_PLAIN_WIDTH, **_PLAIN)


def printable(text: str, limit: int | None = None) -> str:
    r"""A text on one line, in which what a terminal would obey or cannot show is written out.

    Args:
        text: From anywhere.
        limit: Most characters; a longer text ends in an ellipsis.

    >>> printable("one\ntwo\x1b[2J")
    'one\\ntwo\\x1b[2J'
    """
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def printable_lines(text: str) -> str:
    """Several lines, each as :func:`printable` has it, tabs as spaces."""
    return "".join(f"{printable(line.expandtabs())}\n" for line in text.splitlines())


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, such as ``1:02:03``; from two days on, days and hours.

    >>> duration(62), duration(3723), duration(50 * 3600)
    ('1:02', '1:02:03', '2 d 2 h')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def first_line(error: BaseException) -> str:
    r"""What an exception says first, or its name where it says nothing.

    >>> first_line(ValueError("one\ntwo")), first_line(KeyError())
    ('one', 'KeyError')
    """
    return str(error).strip().partition("\n")[0] or type(error).__name__


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "cell"), counted(3, "cell")
    ('1 cell', '3 cells')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def score_text(value: float, metric: str | None, *, digits: int = 1) -> str:
    """What a network reached: an accuracy in percent, or the number of another metric.

    >>> score_text(87.25, None), score_text(0.91234, "r2")
    ('87.2 %', 'r2 0.9123')
    """
    if metric is None:
        return f"{value:.{digits}f} %"
    return f"{metric.rpartition('.')[2]} {value:.4g}"
