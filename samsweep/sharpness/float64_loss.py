"""The loss of a network's outputs in float64, whatever the type of the network.

Near 0 and 1 probabilities round in float32: from a mean cross-entropy of 1e-5 down its Hessian
loses its digits, and below 1e-8 it is wrong altogether, while the outputs that it is taken of are
as good as ever. In float64 the same begins at 1e-12. A loss is a function of few numbers, which
makes this cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

#: ``loss_fn(outputs, labels)``: 0-d.
LossFn = Callable[[Tensor, Tensor], Tensor]

#: Beginnings of the names of operations whose results lie where float32 rounds.
_ROUNDING = ("Softmax", "LogSoftmax", "Logsumexp", "Sigmoid", "LogSigmoid", "Log", "NllLoss")
#: Of operations that only arrange numbers.
_ARRANGING = ("View", "UnsafeView", "Squeeze", "Unsqueeze", "Transpose", "Permute", "Clone", "Neg")


def loss_in_float64(loss_fn: LossFn, outputs: Any, labels: Tensor) -> Tensor:
    """The loss of outputs in float64, 0-d.

    Where ``loss_fn`` brings float32 tensors of its own, such as weights of classes, they are taken
    to float64 wherever they meet the outputs: a tensor, or tuples, lists and dicts of them.
    """
    with _Promoting():
        return loss_fn(in_float64(outputs), labels)


def in_float64(outputs: Any) -> Any:
    """Floating tensors in float64, and everything else as it is."""
    return tree_map(_promoted, outputs)


def rounds_in_the_network(outputs: Any) -> bool:
    """Whether outputs were rounded before a loss in float64 could see them.

    That is where the network itself ends in a softmax or the like, or in the loss, 0-d; outputs
    come with the graph that made them.
    """
    tensors = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
    return any(
        tensor.dtype == torch.float32 and (tensor.ndim == 0 or _last_name(tensor) in _ROUNDING)
        for tensor in tensors
    )


def _last_name(tensor: Tensor) -> str:
    """The operation that made a tensor's numbers, by its name in autograd's graph."""
    node = tensor.grad_fn
    while node is not None and _name(node) in _ARRANGING:
        node = node.next_functions[0][0]
    return "" if node is None else _name(node)


def _name(node: Any) -> str:
    name: str = node.name()
    return name.split("Backward")[0]


def _promoted(value: Any) -> Any:
    return value.double() if _is_float32(value) else value


def _is_float32(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.float32


class _Promoting(TorchFunctionMode):
    """Functions of both float64 and float32 tensors are computed in float64.

    torch does so for sums and products, and refuses where a loss meets its weights or targets.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """What torch calls for each of its functions."""
        given = (args, dict(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor)]
        mixed = any(tensor.dtype == torch.float64 for tensor in tensors)
        # What changes its first argument in place, such as add_, has to be given that, no copy.
        if mixed and (func.__name__.endswith("__") or not func.__name__.endswith("_")):
            args, kwargs = tree_map(_promoted, given)
        return func(*args, **(kwargs or {}))
