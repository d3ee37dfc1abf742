"""The examples of a measurement: tensors, structures of them, or batches that somebody gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.utils._pytree import tree_leaves, tree_map

#: A tensor (N, ...), or a list, tuple or mapping of such, which a network takes as its arguments.
Inputs = Any

#: What the labels of a batch that is a mapping may be called.
_LABELS = ("labels", "label")


def collected(inputs: Any, labels: Any = None) -> tuple[Inputs, Tensor]:
    """Inputs and labels as tensors.

    Args:
        inputs: Tensors or arrays, a structure of them; without labels batches, each a pair of
            both or a mapping with labels in it, as loaders give. They are taken once, so that a
            loader's shuffling and its augmentation are those of one pass.
        labels: Shape (N, ...).

    Raises:
        ValueError: If there are no batches, or what is given is none.
    """
    if labels is None:
        return _of_batches(inputs)
    return tree_map(_tensor, inputs), _tensor(labels)


def _tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    found = torch.as_tensor(value)
    # torch's losses take whole numbers of 64 bits.
    return found.long() if not found.is_floating_point() and found.dtype != torch.bool else found


def _of_batches(batches: Any) -> tuple[Inputs, Tensor]:
    if isinstance(batches, Tensor) or not isinstance(batches, Iterable):
        raise ValueError(
            f"{type(batches).__name__} without labels: give both, or a loader of batches"
        )
    pairs = [collected(*_pair(batch)) for batch in batches]
    if not pairs:
        raise ValueError("the loader gives no batch: give at least one example")
    try:
        parts = [inputs for inputs, _ in pairs]
        inputs = tree_map(lambda *leaves: torch.cat(leaves), *parts)
        return inputs, torch.cat([labels for _, labels in pairs])
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"the batches do not make one tensor ({error}): have all of one shape, padded alike"
        ) from error


def _pair(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        for name in _LABELS:
            if name in batch:
                return {key: value for key, value in batch.items() if key != name}, batch[name]
        raise ValueError(
            f"a batch has no {' or '.join(_LABELS)} among {', '.join(map(str, batch))}: give pairs "
            "of inputs and labels"
        )
    if isinstance(batch, list | tuple) and len(batch) == 2:
        return batch[0], batch[1]
    raise ValueError(
        f"a batch is {type(batch).__name__}, not (inputs, labels) or a mapping with labels"
    )


def number_of(inputs: Inputs) -> int:
    """Number of examples, N.

    Raises:
        ValueError: If there is no tensor, or they have different numbers.
    """
    numbers = {len(leaf) for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)}
    if len(numbers) != 1:
        told = ", ".join(map(str, sorted(numbers))) or "no"
        raise ValueError(f"inputs are tensors of {told} examples: give as many of each")
    return numbers.pop()


def some_of(inputs: Inputs, which: slice | Tensor) -> Inputs:
    """Some of the examples, by their places or by a mask."""

    def taken(leaf: Tensor) -> Tensor:
        return leaf[which.to(leaf.device) if isinstance(which, Tensor) else which]

    return tree_map(taken, inputs)


def moved(inputs: Inputs, device: torch.device) -> Inputs:
    """The examples on a device."""
    return tree_map(lambda leaf: leaf.to(device), inputs)


def arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments for a network.

    >>> arguments({"input_ids": 1})
    ((), {'input_ids': 1})
    """
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs), {}) if isinstance(inputs, list | tuple) else ((inputs,), {})


def outputs_of(model: Module, inputs: Inputs) -> Any:
    """What a network makes of the examples."""
    args, kwargs = arguments(inputs)
    return model(*args, **kwargs)
