"""Passes over all examples, told to who wants to see them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_shown_in: ContextVar[Progress | None] = ContextVar("shown_in", default=None)


def pass_taken() -> None:
    """Count a product with the Hessian, a gradient or a loss."""
    bar = _shown_in.get()
    if bar is not None:
        bar.advance(bar.task_ids[0])


@contextmanager
def passes_shown(name: str) -> Iterator[None]:
    """Show on the terminal how many are taken inside the block."""
    text = TextColumn("{task.description}: {task.completed:.0f} passes over the examples")
    with Progress(SpinnerColumn(), text, TimeElapsedColumn(), transient=True) as bar:
        bar.add_task(name, total=None)
        token = _shown_in.set(bar)
        try:
            yield
        finally:
            _shown_in.reset(token)
