"""One step for every optimizer: differentiate a closure, mix, hand over to a torch optimizer."""

from __future__ import annotations

import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from samsweep.config import Clip
from samsweep.numerics.vectors import Vector, in_memory_order_of, norm
from samsweep.optim.passes import AfterBackward, Closure, Overflow, take_pass

#: Of the whole mini-batch, or of each of its parts.
Closures = Closure | Sequence[Closure]

#: Floor of a norm that is divided by, as torch's ``clip_grad_norm_`` has it.
EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What a step computed, for diagnostics. All lists follow the parameters that had a gradient.

    Args:
        loss: Mini-batch loss at w, 0-d.
        params: The parameters, after the step.
        grad_clean: g, the gradient at w.
        update: The vector handed to the base optimizer.
        loss_perturbed: Mini-batch loss at w + epsilon, 0-d; None without a second pass.
        grad_perturbed: h, the gradient at w + epsilon; None without a second pass.
        rho: Radius of the perturbation; None without a second pass.
    """

    loss: Tensor
    params: Vector
    grad_clean: Vector
    update: Vector
    loss_perturbed: Tensor | None = None
    grad_perturbed: Vector | None = None
    rho: float | None = None


@dataclass(frozen=True)
class Clipping:
    """Vectors no longer than a norm, over all parameters together (Pascanu et al. 2013).

    Args:
        largest: The norm.
        what: ``combined``, the vector for the base optimizer, or ``gradient``, g and h each.
    """

    largest: float
    what: Clip

    def __call__(self, vector: Vector) -> Vector:
        """The vector, or a shorter one of its direction."""
        # A tensor: nothing waits for a GPU, and a step can be recorded.
        factor = (self.largest / (norm(vector) + EPS)).clamp(max=1.0)
        return torch._foreach_mul(vector, factor)


#: What makes a torch optimizer of parameters and keyword arguments: its class.
MakeBase = Callable[..., torch.optim.Optimizer]


class ClosureOptimizer(torch.optim.Optimizer, ABC):
    """Computes a vector from a closure and hands it to a torch optimizer in place of the gradient.

    Weight decay and momentum belong to the torch optimizer, so both act after mixing. To learning
    rate schedulers, and to whatever else asks, it is an optimizer with the parameter groups, the
    state and the defaults of that one; only ``step`` needs a closure, and returns more.

    Args:
        params: Parameters or groups of them, of which ``base`` makes the torch optimizer, or that
            optimizer itself.
        base: Its class, or again itself.
        base_args: The class's keyword arguments.

    Raises:
        ValueError: If the parameters are sharded over processes, the optimizer calls its closure
            itself, or it is not known which it is.
        TypeError: If an optimizer that is built already has arguments beside it.

    >>> layer = torch.nn.Linear(2, 1)
    >>> optimizer = GradientDescent(layer.parameters(), base=torch.optim.SGD, lr=0.1)
    >>> torch.optim.lr_scheduler.StepLR(optimizer, 1).get_last_lr()
    [0.1]
    """

    #: Has a ``GradScaler`` that is asked to take the step hand it over as it is: :meth:`step` says
    #: what to do instead.
    _step_supports_amp_scaling = True

    def __init__(
        self,
        params: torch.optim.Optimizer | Iterable[Any] | None = None,
        *,
        base: torch.optim.Optimizer | MakeBase | None = None,
        **base_args: Any,
    ) -> None:
        self.base = _base_of(params, base, base_args)
        _refuse_others(self.base)
        #: As built, True, False or None: a state from another training does not change it.
        self._fused = self.base.defaults.get("fused")
        #: None leaves vectors as long as they are.
        self.clipping: Clipping | None = None
        #: Scales the losses of float16; its ``update`` is the loop's to call. A step whose
        #: gradients are not finite is left out.
        self.scaler: GradScaler | None = None
        #: Takes the same mini-batch forward and backward once more, and may return the loss: for
        #: loops that call ``backward`` and then ``step()`` without a closure.
        self.replay: Callable[[], Tensor | None] | None = None
        #: What the last step has left in the parameters, and how often that had been changed; None
        #: of a copy, which cannot know.
        self._left: list[tuple[weakref.ref[Tensor], int]] | None = []
        # All of torch's own initialisation but what the base has: hooks, and the profiler's names.
        super().__setstate__({})

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """Those of the base optimizer."""
        return self.base.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        """That of the base optimizer, by parameter."""
        return self.base.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """Those of the base optimizer."""
        return self.base.defaults

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Train more parameters."""
        self.base.add_param_group(param_group)
        _refuse_others(self.base)

    def __getstate__(self) -> dict[str, Any]:
        """Everything, as any object has it: what is copied goes on like the original."""
        # A learning rate scheduler's wrapper of step belongs to the original.
        return {**{k: v for k, v in self.__dict__.items() if k != "step"}, "_left": None}

    @property
    def recordable(self) -> bool:
        """Whether :meth:`compute` is the same work at each step, which a CUDA graph can repeat.

        It is not where a step depends on Python's numbers or on what the optimizer remembers.
        """
        return False

    @property
    def params(self) -> list[Tensor]:
        """All parameters that can be trained, group after group."""
        groups = self.base.param_groups
        return [p for group in groups for p in group["params"] if p.requires_grad]

    def step(self, closure: Closures | None = None) -> StepResult:  # type: ignore[override]
        """Take one step.

        Args:
            closure: Computes the mini-batch loss, 0-d, and may call its ``backward``. It is called
                once or twice and must take the same mini-batch each time. SAM takes several as
                well, one for each part of the mini-batch. Without one the gradients that are there
                are those at w, and :attr:`replay` finds others.

        Returns:
            What was computed on the way.

        Raises:
            ValueError: If a scaler takes the step, or there is no way to a second pass.
        """
        self._check_scaling()
        if closure is None:
            closure = AfterBackward(self.params, self.replay)
        else:
            self._warn_of_gradients()
        result = self.compute(closure)
        self.apply(result)
        return result

    def _check_scaling(self) -> None:
        """Refuse gradients that a scaler has divided, or will divide, by itself.

        Raises:
            ValueError: If it has or will.
        """
        if hasattr(self, "found_inf"):
            raise ValueError(
                "scaler.step(optimizer) knows of one pass: set optimizer.scaler = scaler, and call "
                "optimizer.step(closure), then scaler.update()"
            )
        states = getattr(self.scaler, "_per_optimizer_states", {})
        if id(self) in states and states[id(self)]["stage"].name != "READY":
            raise ValueError(
                "scaler.unscale_(optimizer) divides gradients that the step divides itself: leave "
                "it out, and clip by optimizer.clipping"
            )

    def _warn_of_gradients(self) -> None:
        """Tell of gradients that somebody has put there, which a closure knows nothing of."""
        if self._left is None:
            return
        ours = {(id(left()), version) for left, version in self._left}
        grads = (p.grad for p in self.params if p.grad is not None)
        if any(grad.any() for grad in grads if (id(grad), grad._version) not in ours):
            warnings.warn(
                "step(closure) does not count the gradients that are there: to accumulate, let the "
                "closure go over several batches, or call step() without one and set replay; if "
                "they are of no use, call zero_grad() before",
                stacklevel=4,
            )

    def compute(self, closure: Closures) -> StepResult:
        """Everything of a step but the update; afterwards the parameters are as they were."""
        self.base.zero_grad(set_to_none=True)
        before = None if self.scaler is None else self._own_state()
        with torch.enable_grad():
            try:
                result = self._compute(closure)
            except Overflow as overflow:
                # As if the step had not been; on every rank, also where its part was finite.
                self._load_own_state(before or {})
                found = overflow.found
                infinite = [torch.full_like(g, float("inf")) for g in found.gradient]
                result = StepResult(
                    loss=found.loss,
                    params=found.params,
                    grad_clean=found.gradient,
                    update=infinite,
                )
        if self.clipping is None or self.clipping.what != "combined":
            return result
        return replace(result, update=self.clipping(result.update))

    def clipped(self, gradient: Vector) -> Vector:
        """A gradient as :attr:`clipping` has it."""
        if self.clipping is None or self.clipping.what != "gradient":
            return gradient
        return self.clipping(gradient)

    def apply(self, result: StepResult) -> None:
        """Hand over to the base optimizer what :meth:`compute` gave."""
        # What a closure's own backward left in others is no update.
        self.base.zero_grad(set_to_none=True)
        update = result.update
        if self.scaler is not None:
            # It divides by that again, and leaves out a step that is not finite.
            update = torch._foreach_mul(update, self.scaler.get_scale())
        for param, vector in zip(result.params, update, strict=True):
            param.grad = in_memory_order_of(param, vector) if self._fused else vector
        if self.scaler is None:
            self.base.step()
        else:
            self.scaler.step(self.base)
        grads = (p.grad for p in result.params if p.grad is not None)
        self._left = [(weakref.ref(grad), grad._version) for grad in grads]

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's, and under ``own`` what this one remembers, if anything."""
        for prepare in self._optimizer_state_dict_pre_hooks.values():
            prepare(self)
        own = self._own_state()
        state = {**self.base.state_dict(), **({"own": own} if own else {})}
        for change in self._optimizer_state_dict_post_hooks.values():
            changed = change(self, state)
            state = state if changed is None else changed
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that :meth:`state_dict` gave, of a fused base optimizer or of another."""
        for prepare in self._optimizer_load_state_dict_pre_hooks.values():
            changed = prepare(self, state)
            state = state if changed is None else changed
        if "base" in state:
            # As it was written up to version 0.1.
            older = {key: value for key, value in state.items() if key != "base"}
            state = {**state["base"], **({"own": older} if older else {})}
        self._load_base_state({key: value for key, value in state.items() if key != "own"})
        self._load_own_state(state.get("own", {}))
        for tell in self._optimizer_load_state_dict_post_hooks.values():
            tell(self)

    def _own_state(self) -> dict[str, Any]:
        """What this optimizer remembers beside its base."""
        return {}

    def _load_own_state(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`_own_state` gave."""

    def _load_base_state(self, base: dict[str, Any]) -> None:
        if "fused" in self.base.defaults:
            # Before it is loaded, since torch puts parts of a state where the groups' keys say.
            groups = [{**group, "fused": self._fused} for group in base["param_groups"]]
            base = {**base, "param_groups": groups}
        self.base.load_state_dict(base)
        if self._fused:
            for param, kept in self.base.state.items():
                for name, value in kept.items():
                    if isinstance(value, Tensor) and value.shape == param.shape:
                        kept[name] = in_memory_order_of(param, value)

    @abstractmethod
    def _compute(self, closure: Closures) -> StepResult:
        """Loss, gradients and the vector for the base optimizer; parameters end at w."""


def _base_of(
    params: torch.optim.Optimizer | Iterable[Any] | None,
    base: torch.optim.Optimizer | MakeBase | None,
    base_args: dict[str, Any],
) -> torch.optim.Optimizer:
    """The torch optimizer that is given, or made."""
    built = [x for x in (params, base) if isinstance(x, torch.optim.Optimizer)]
    if len(built) == 1 and (params is None or base is None):
        if base_args:
            raise TypeError(
                f"{', '.join(base_args)}: arguments of an optimizer that is built already"
            )
        return built[0]
    if built or params is None or base is None or isinstance(base, torch.optim.Optimizer):
        raise ValueError(
            "give an optimizer, or parameters with base=torch.optim.SGD and its arguments, lr=0.1"
        )
    return base(params, **base_args)


def _refuse_others(base: torch.optim.Optimizer) -> None:
    """Bases that cannot be: LBFGS calls closures as often as it likes.

    Of FSDP's parameters a process has a part of each, and with it of every gradient's norm.
    """
    if isinstance(base, torch.optim.LBFGS):
        raise ValueError("LBFGS calls the closure itself: choose a base that takes one gradient")
    kinds = {type(p).__name__ for group in base.param_groups for p in group["params"]}
    sharded = kinds & {"DTensor", "FlatParameter"}
    if sharded:
        raise ValueError(
            f"parameters of FSDP ({', '.join(sharded)}): norms and gradients are of whole tensors, "
            "train with DistributedDataParallel or in one process"
        )


def only(closures: Closures) -> Closure:
    """The closure of the whole mini-batch.

    Raises:
        ValueError: If there are several.
    """
    if callable(closures):
        return closures
    if len(closures) != 1:
        raise ValueError(f"{len(closures)} closures: parts of a mini-batch are for SAM, give one")
    return closures[0]


def checked_rho(rho: float) -> float:
    """``rho``, if it can be a radius.

    Raises:
        ValueError: If it is negative or not finite.
    """
    if not 0 <= rho < float("inf"):
        raise ValueError(f"rho={rho}: must be at least 0 and finite")
    return rho


class GradientDescent(ClosureOptimizer):
    """The plain gradient: the base optimizer as it is, driven by the same ``step(closure)``."""

    @property
    def recordable(self) -> bool:
        """Always."""
        return True

    def _compute(self, closure: Closures) -> StepResult:
        found = take_pass(only(closure), self.params, scaler=self.scaler)
        clean = self.clipped(found.gradient)
        return StepResult(loss=found.loss, params=found.params, grad_clean=clean, update=clean)
