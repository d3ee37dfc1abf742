"""Functions of torch, replaced for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch.overrides import TorchFunctionMode


class replaced(TorchFunctionMode):  # noqa: N801 - used like a verb
    """Inside the block, torch's functions are others; these see torch's own.

    Args:
        others: What is called in a function's place, with the same arguments.
    """

    def __init__(self, others: Mapping[Callable[..., Any], Callable[..., Any]]) -> None:
        super().__init__()
        self._others = others

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """What torch calls for each of its functions."""
        return self._others.get(func, func)(*args, **(kwargs or {}))
