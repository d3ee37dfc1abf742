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


def collected(
    inputs: Any, labels: Any = None, dtype: torch.dtype | None = None
) -> tuple[Inputs, Tensor]:
    """Inputs and labels as tensors.

    Args:
        inputs: Tensors or arrays, a structure of them; without labels batches, each a pair of
            both or a mapping with labels in it, as loaders give. They are taken once, so that a
            loader's shuffling and its augmentation are those of one pass.
        labels: Shape (N, ...).
        dtype: Of what arrays of floats become; None is torch's default.

    Raises:
        ValueError: If there are no batches, or what is given is none.
    """
    if labels is None:
        return _of_batches(inputs, dtype)
    if isinstance(inputs, Mapping):
        # Whatever kind of mapping it is, such as a tokenizer's, which may leave entries empty.
        inputs = {key: value for key, value in inputs.items() if value is not None}
    found = _tensor(labels, dtype)
    if not isinstance(labels, Tensor) and not found.is_floating_point():
        # torch's losses take whole numbers of 64 bits.
        found = found.long()
    return tree_map(lambda value: _tensor(value, dtype), inputs), found


def _tensor(value: Any, dtype: torch.dtype | None) -> Tensor:
    if isinstance(value, Tensor):
        return value
    try:
        found = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{type(value).__name__} among the examples is no tensor ({error}): give tensors, "
            "arrays, or structures of them"
        ) from None
    return found.to(dtype or torch.get_default_dtype()) if found.is_floating_point() else found


def _of_batches(batches: Any, dtype: torch.dtype | None) -> tuple[Inputs, Tensor]:
    if isinstance(batches, Tensor) or not isinstance(batches, Iterable):
        raise ValueError(
            f"{type(batches).__name__} without labels: give both, or a loader of batches"
        )
    pairs = [collected(*_pair(batch), dtype) for batch in batches]
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
    leaves = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
    if any(leaf.ndim == 0 for leaf in leaves):
        raise ValueError("a tensor of the inputs is a single number: give one entry per example")
    numbers = {len(leaf) for leaf in leaves}
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
