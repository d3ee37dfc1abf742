"""Along what SAM ascends: the gradient at w, or what others put in its place.

A direction is one tensor per parameter; how long epsilon is, the ascent decides
(:mod:`samsweep.optim.ascent`). One that does not need the gradient at w saves the pass that finds
it, unless something else of the step needs it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from samsweep.numerics.device_transfer import to_device
from samsweep.numerics.seeding import generator
from samsweep.numerics.vectors import Vector
from samsweep.optim.remembered import Remembered
from samsweep.optim.training_step import TrainingStep


class AscentDirection:
    """The gradient of the mini-batch at w (Foret et al. 2021), and the base class of the others.

    Others overwrite :meth:`__call__`, and the two methods of their state if they have one.
    """

    #: Whether it is made of the gradient at w.
    needs_gradient: ClassVar[bool] = True
    #: Whether parts of a mini-batch can each have their own.
    takes_parts: ClassVar[bool] = True

    def __call__(self, params: Vector, gradient: Vector, now: TrainingStep) -> Vector:
        """The direction, one tensor per parameter.

        Args:
            params: The parameters.
            gradient: The gradient at w; empty if :attr:`needs_gradient` is false.
            now: Where in its training the step is.
        """
        return gradient

    def observe(self, params: Vector, gradient: Vector) -> None:
        """See the gradient that the step has ended with: h, or g where it did not ascend."""

    def state_dict(self, params: Vector) -> dict[str, Any]:
        """What later steps depend on; ``params`` are all of the optimizer's."""
        return {}

    def load_state_dict(self, state: dict[str, Any], params: Vector) -> None:
        """Take up what :meth:`state_dict` gave."""


class _Remembering(AscentDirection):
    """A direction made of earlier gradients."""

    def __init__(self) -> None:
        self._earlier = Remembered()

    def state_dict(self, params: Vector) -> dict[str, Any]:
        """The earlier gradients."""
        return {"earlier": self._earlier.state_dict(params)}

    def load_state_dict(self, state: dict[str, Any], params: Vector) -> None:
        """Take them up."""
        self._earlier.load_state_dict(state["earlier"], params)


class RandomDirection(AscentDirection):
    """Independent normal numbers, drawn anew at each step, and for each part of a mini-batch.

    A control that knows nothing.

    Args:
        seed: Of the draws, which are the same on every device.
    """

    needs_gradient = False

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._step, self._part = -1, 0

    def __call__(self, params: Vector, gradient: Vector, now: TrainingStep) -> Vector:
        """Draw it."""
        self._step, self._part = now.step, self._part + 1 if now.step == self._step else 0
        part = (self._part,) if self._part else ()
        draws = generator(self._seed, "ascent direction", now.step, *part)
        drawn = [torch.randn(p.shape, generator=draws) for p in params]
        return [to_device(x.to(p.dtype), p.device) for x, p in zip(drawn, params, strict=True)]


class LastGradient(_Remembering):
    """The gradient that the step before has ended with; the first step does not ascend."""

    needs_gradient = False
    takes_parts = False

    def __call__(self, params: Vector, gradient: Vector, now: TrainingStep) -> Vector:
        """The last one."""
        return self._earlier.of(params)

    def observe(self, params: Vector, gradient: Vector) -> None:
        """Keep it for the next step: a copy, since SGD with Nesterov momentum changes its own."""
        self._earlier.keep(params, [x.clone() for x in gradient])


class MomentumDirection(AscentDirection):
    """The base optimizer's momentum; the first step does not ascend.

    Momentum-SAM (Becker et al. 2024, arXiv 2401.12033) moves by -rho v / ‖v‖ with v the sum of
    gradients that the weights go against, so *down* the momentum: a sign of -1. Weight decay is in
    v, and is of w; the authors' code takes it of w + epsilon.

    Args:
        base: The base optimizer, with ``momentum_buffer`` (SGD) or ``exp_avg`` (Adam) as its state.
        sign: 1 ascends, -1 goes the other way.

    Raises:
        ValueError: If the sign is neither, or the base optimizer has no momentum.
    """

    needs_gradient = False
    takes_parts = False

    def __init__(self, base: torch.optim.Optimizer, sign: Literal[1, -1] = 1) -> None:
        if sign not in (1, -1):
            raise ValueError(f"sign={sign}: choose 1 or -1")
        if not any(group.get("momentum") or "betas" in group for group in base.param_groups):
            raise ValueError(f"{type(base).__name__} has no momentum to ascend along")
        self._base = base
        self._sign = sign

    def __call__(self, params: Vector, gradient: Vector, now: TrainingStep) -> Vector:
        """The momentum as it is.

        Raises:
            ValueError: If the base optimizer keeps none under a name that is known.
        """
        return [self._momentum(p) for p in params]

    def _momentum(self, param: Tensor) -> Tensor:
        state = self._base.state.get(param, {})
        kept = next((state[name] for name in _MOMENTA if name in state), None)
        if kept is None and not state:
            # Before the first step.
            return torch.zeros_like(param)
        if not isinstance(kept, Tensor) or kept.shape != param.shape:
            raise ValueError(
                f"{type(self._base).__name__} keeps no momentum to ascend along, as "
                f"{' or '.join(_MOMENTA)}: choose another base"
            )
        return kept if self._sign == 1 else -kept


#: What optimizers call their momentum.
_MOMENTA = ("momentum_buffer", "exp_avg")


class FriendlyDirection(_Remembering):
    """g - sigma · m with m a moving average of earlier gradients: what is new in the mini-batch.

    Friendly SAM (Li et al. 2024, arXiv 2403.12350). As in the authors' code, m is that before the
    step and starts as the first g, along which the first step ascends. With sigma = 1 the m that
    has g in it, which is the paper's, gives the same direction. Steps that do not ascend are not
    in m.

    Args:
        sigma: How much of the average is taken away.
        decay: lambda, of the average (0.9 in the authors' class, 0.95 in their training).
    """

    takes_parts = False

    def __init__(self, sigma: float = 1.0, decay: float = 0.9) -> None:
        super().__init__()
        if not 0 <= decay <= 1:
            raise ValueError(f"decay={decay}: choose between 0 and 1")
        self._sigma = sigma
        self._decay = decay

    def __call__(self, params: Vector, gradient: Vector, now: TrainingStep) -> Vector:
        """The difference; the average takes in g."""
        averages = self._earlier.of(params)
        known = [self._earlier.has(p) for p in params]
        rows = list(zip(known, gradient, averages, strict=True))
        new = 1 - self._decay
        updated = [self._decay * a + new * g if has else g.clone() for has, g, a in rows]
        self._earlier.keep(params, updated)
        return [g - self._sigma * a if has else g for has, g, a in rows]


class AverageDirection(_Remembering):
    """A moving average of gradients: (1 - theta) · d + theta · g.

    VaSSO (Li & Giannakis 2023, arXiv 2309.15639). As in the authors' code it starts as the first g.
    Steps that do not ascend are not in it.

    Args:
        theta: Share of g (0.9 is the default of the authors' code).
    """

    takes_parts = False

    def __init__(self, theta: float = 0.2) -> None:
        super().__init__()
        if not 0 <= theta <= 1:
            raise ValueError(f"theta={theta}: choose between 0 and 1")
        self._theta = theta

    def __call__(self, params: Vector, gradient: Vector, now: TrainingStep) -> Vector:
        """The average with g in it."""
        averages = self._earlier.of(params)
        updated = [
            a * (1 - self._theta) + g * self._theta if self._earlier.has(p) else g.clone()
            for p, g, a in zip(params, gradient, averages, strict=True)
        ]
        self._earlier.keep(params, updated)
        return updated
