"""What a loss was made of, by autograd's graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor


def operations(tensor: Tensor, *, up_to: frozenset[str] = frozenset()) -> Iterator[str]:
    """Names of the operations that a tensor was made by, the latest first, ``Linear`` for one.

    Args:
        tensor: With its graph.
        up_to: Names behind which nothing is looked for; they are not among those that are found.
    """
    waiting: list[Any] = [tensor.grad_fn]
    seen: set[Any] = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = node.name().partition("Backward")[0]
        if name not in up_to:
            yield name
            waiting += [earlier for earlier, _ in node.next_functions]


def refuse_reentrant_checkpoints(loss: Tensor) -> None:
    """Refuse a loss behind ``torch.utils.checkpoint`` with ``use_reentrant=True``.

    Parameters of what it hides are no part of the graph: differentiated in, they have no gradient.

    Raises:
        ValueError: If it is one.
    """
    if "CheckpointFunction" in operations(loss):
        raise ValueError(
            "the network checkpoints reentrantly, which is for backward alone: give "
            "torch.utils.checkpoint use_reentrant=False, or let the closure call backward"
        )
