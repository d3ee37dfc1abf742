"""BatchNorm in eval mode is a fixed affine map: fold it into the convolution before it.

With running mean m and variance v, gamma (W x - m) / sqrt(v + eps) + beta is the convolution with
the weight s W and the bias beta - s m, s = gamma / sqrt(v + eps). Computed that way inside the
forward pass, the loss is the same function of the same parameters, W, gamma and beta, and so are
all its derivatives; but the activations between convolution and BatchNorm, and the costly second
derivative of BatchNorm at every one of them, are gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeGuard

from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.functional import linear

from samsweep.sharpness.examples import Inputs, outputs_of

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
Linear = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


@dataclass(frozen=True)
class Folding:
    """What of a model can be computed without its BatchNorms.

    Args:
        pairs: Convolutions (or linear layers), each with the BatchNorm that alone uses its output.
        lone: The other BatchNorms, computed as scale and shift.
    """

    pairs: tuple[tuple[Linear, Norm], ...] = ()
    lone: tuple[Norm, ...] = ()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Compute with folded BatchNorms inside the block; meant for eval mode."""
        with ExitStack() as stack:
            for layer, norm in self.pairs:
                stack.enter_context(_forward(layer, partial(_folded, layer, norm)))
                stack.enter_context(_forward(norm, lambda inputs: inputs))
            for norm in self.lone:
                stack.enter_context(_forward(norm, partial(_scale_and_shift, norm)))
            yield


def find_folding(model: nn.Module, inputs: Inputs) -> Folding:
    """Look at one forward pass in eval mode for what can be folded.

    A pair is a convolution, or linear layer, and a BatchNorm that were called once each, where the
    one's output is the other's input, and nothing else uses it: its node in the graph of the
    outputs has that one successor.

    Args:
        model: In eval mode; it is run on ``inputs``.
        inputs: A few examples, shape (n, ...).
    """
    calls = _Calls()
    with ExitStack() as stack:
        for module in model.modules():
            if _is_linear(module) or isinstance(module, _NORMS):
                stack.callback(module.register_forward_hook(calls.note).remove)
        outputs = outputs_of(model, inputs)
    if not isinstance(outputs, Tensor):
        # What the loss takes of them, perhaps a convolution's own output, is not to be seen here.
        return Folding()
    uses = _uses(outputs)
    pairs, lone = [], []
    for norm in filter(_is_affine_map, calls.taken):
        layer = calls.source(norm, uses)
        if layer is None:
            lone.append(norm)
        else:
            pairs.append((layer, norm))
    return Folding(tuple(pairs), tuple(lone))


@dataclass
class _Calls:
    """What was called, and the nodes of autograd's graph that each took and gave.

    A node stands for one value: a tensor that is changed in place afterwards has another.
    """

    count: Counter[nn.Module] = field(default_factory=Counter)
    taken: dict[Norm, Node | None] = field(default_factory=dict)
    given: dict[Linear, Node | None] = field(default_factory=dict)

    def note(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """A forward hook."""
        self.count[module] += 1
        if len(args) != 1:
            return
        if isinstance(module, _NORMS):
            self.taken[module] = args[0].grad_fn
        # BatchNorm1d has the channels second, nn.Linear last.
        elif _is_linear(module) and not (_is_dense(module) and output.ndim > 2):
            self.given[module] = output.grad_fn

    def source(self, norm: Norm, uses: Counter[Node]) -> Linear | None:
        """The layer whose output goes into a norm and nowhere else; both called once."""
        for layer, node in self.given.items():
            if node is not None and node is self.taken[norm] and uses[node] == 1:
                return layer if self.count[layer] == self.count[norm] == 1 else None
        return None


def _uses(outputs: Tensor) -> Counter[Node]:
    """How many operations take the result of each operation that leads to ``outputs``."""
    uses: Counter[Node] = Counter()
    pending = [outputs.grad_fn] if outputs.grad_fn is not None else []
    while pending:
        for following, _ in pending.pop().next_functions:
            if following is not None:
                uses[following] += 1
                if uses[following] == 1:
                    pending.append(following)
    return uses


def _is_linear(module: nn.Module) -> TypeGuard[Linear]:
    """Whether a module is y = W x + b, by the code that torch has for it."""
    if isinstance(module, _CONVOLUTIONS):
        return type(module).forward in [kind.forward for kind in _CONVOLUTIONS]
    return _is_dense(module)


def _is_dense(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward


def _is_affine_map(norm: Norm) -> bool:
    """Whether a BatchNorm does the same to every example."""
    plain = type(norm).forward in [kind.forward for kind in _NORMS]
    return plain and not norm.training and norm.running_mean is not None


def _scale(norm: Norm) -> tuple[Tensor, Tensor]:
    """Scale and shift of each channel, shape (C,), differentiable in gamma and beta."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias


def _folded(layer: Linear, norm: Norm, inputs: Tensor) -> Tensor:
    """``norm(layer(inputs))``."""
    scale, bias = _scale(norm)
    if layer.bias is not None:
        bias = bias + scale * layer.bias
    weight = layer.weight * _spread(scale, layer.weight, dim=0)
    if isinstance(layer, nn.Linear):
        return linear(inputs, weight, bias)
    # A subclass may compute the convolution in its own way.
    result: Tensor = layer._conv_forward(inputs, weight, bias)
    return result


def _scale_and_shift(norm: Norm, inputs: Tensor) -> Tensor:
    """``norm(inputs)``."""
    scale, shift = _scale(norm)
    return inputs * _spread(scale, inputs, dim=1) + _spread(shift, inputs, dim=1)


def _spread(channels: Tensor, like: Tensor, *, dim: int) -> Tensor:
    """A number per channel, shaped to multiply a tensor that has the channels at ``dim``."""
    return channels.view(*(-1 if i == dim else 1 for i in range(like.ndim)))


@contextmanager
def _forward(module: nn.Module, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Have one module compute something else inside the block."""
    before = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = before
