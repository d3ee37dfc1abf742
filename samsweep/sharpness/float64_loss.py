"""The loss of a network's outputs in float64, whatever the type of the network.

Near 0 and 1 probabilities round in float32: from a mean cross-entropy of 1e-5 down its Hessian
loses its digits, and below 1e-8 it is wrong altogether, while the outputs that it is taken of are
as good as ever. In float64 the same begins at 1e-12, but for torch's own cross-entropies, which are
computed without subtractions (:mod:`samsweep.sharpness.exact_losses`). A loss is a function of few
numbers, which makes this cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from samsweep.numerics.autograd_graph import operations
from samsweep.sharpness.exact_losses import EXACT

#: ``loss_fn(outputs, labels)``: 0-d.
LossFn = Callable[[Tensor, Tensor], Tensor]

#: Operations, by the beginnings of their names, whose results lie where float32 rounds.
_ROUNDING = frozenset("Softmax LogSoftmax Logsumexp Sigmoid LogSigmoid Log NllLoss".split())
#: Operations of layers: a softmax before one is the network's own, as attention's.
_LAYERS = frozenset(
    "Addmm Mm Bmm Baddbmm Mv Addmv Dot Embedding NativeLayerNorm NativeGroupNorm NativeBatchNorm "
    "CudnnBatchNorm Convolution CudnnConvolution MkldnnConvolution ScaledDotProduct".split()
)


def loss_in_float64(loss_fn: LossFn, outputs: Any, labels: Tensor) -> Tensor:
    """The loss of outputs in float64, 0-d.

    Where ``loss_fn`` brings float32 tensors of its own, such as weights of classes, they are taken
    to float64 wherever they meet the outputs: a tensor, or tuples, lists and dicts of them.
    """
    with _Promoting():
        return loss_fn(in_float64(outputs), labels)


def is_exact(loss_fn: LossFn) -> bool:
    """Whether a loss is one of torch's that are computed without subtractions."""
    while isinstance(loss_fn, partial):
        loss_fn = loss_fn.func
    kinds = (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss)
    return loss_fn in EXACT or isinstance(loss_fn, kinds)


def in_float64(outputs: Any) -> Any:
    """Floating tensors in float64, and everything else as it is."""
    return tree_map(_promoted, outputs)


def rounds_in_the_network(outputs: Any) -> bool:
    """Whether outputs were rounded before a loss in float64 could see them.

    That is where the network itself ends in a softmax or the like, whatever is done with its
    results after the last layer, or in the loss, 0-d; outputs come with the graph that made them.
    """
    tensors = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
    return any(
        tensor.dtype == torch.float32
        and (tensor.ndim == 0 or not _ROUNDING.isdisjoint(operations(tensor, up_to=_LAYERS)))
        for tensor in tensors
    )


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
        if mixed and func in EXACT and args and args[0].dtype == torch.float64:
            args, kwargs = tree_map(_promoted, given)
            return EXACT[func](*args, **kwargs)
        # What changes its first argument in place, such as add_, has to be given that, no copy.
        if mixed and (func.__name__.endswith("__") or not func.__name__.endswith("_")):
            args, kwargs = tree_map(_promoted, given)
        return func(*args, **(kwargs or {}))
