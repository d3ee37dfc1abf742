"""At which steps SAM ascends, and what takes the place of h at the others.

At a step that does not ascend the vector is g, at the cost of the base optimizer, unless a rule has
something better.
"""

from __future__ import annotations

from typing import Any

import torch

from samsweep.numerics.seeding import generator
from samsweep.numerics.vectors import Vector, dot, norm
from samsweep.optim.remembered import Remembered
from samsweep.optim.training_step import TrainingStep

#: Floor of a norm that is divided by.
EPS = 1e-12


class Always:
    """At each step; the base class of the others."""

    #: Whether the rule looks at the gradient at w, which is then found at each step.
    needs_gradient: bool = False

    def ascends(self, gradient: Vector, now: TrainingStep) -> bool:
        """Whether this step ascends.

        Args:
            gradient: At w; empty if :attr:`needs_gradient` is false and nothing else needs it.
            now: Where in its training the step is.
        """
        return True

    def observe(self, params: Vector, g: Vector, h: Vector) -> None:
        """See both gradients of a step that has ascended."""

    def substitute(self, params: Vector, g: Vector) -> Vector:
        """The vector of a step that does not ascend."""
        return g

    def state_dict(self, params: Vector) -> dict[str, Any]:
        """What later steps depend on; ``params`` are all of the optimizer's."""
        return {}

    def load_state_dict(self, state: dict[str, Any], params: Vector) -> None:
        """Take up what :meth:`state_dict` gave."""


class Epochs(Always):
    """From one epoch on, until another (Zhou et al. 2025, arXiv 2410.10373: late is enough).

    Args:
        first: Epochs that are trained before.
        last: Epochs after which no step ascends; None is the last one.
    """

    def __init__(self, first: float = 0, last: float | None = None) -> None:
        if last is not None and not first < last:
            raise ValueError(f"first={first}, last={last}: the last must be after the first")
        self._first = first
        self._last = last

    def ascends(self, gradient: Vector, now: TrainingStep) -> bool:
        """Whether this epoch is one of them."""
        return self._first <= now.epoch < (float("inf") if self._last is None else self._last)


class Every(Always):
    """At every k-th step, the first included; what is new in h may be used again between them.

    LookSAM (Liu et al. 2022, arXiv 2203.02714, algorithm 1) keeps the part of h that is orthogonal
    to g, v = h - (h · ĝ) ĝ, and takes g + reuse · ‖g‖ / ‖v‖ · v at the others, norms and products
    over all parameters together.

    Args:
        steps: k.
        reuse: alpha of LookSAM; 0 is g alone.
    """

    def __init__(self, steps: int = 5, reuse: float = 0.0) -> None:
        if steps < 1 or steps != int(steps):
            raise ValueError(f"steps={steps}: choose a whole number of at least 1")
        if reuse < 0:
            raise ValueError(f"reuse={reuse}: choose at least 0")
        self.needs_gradient = reuse != 0
        self._steps = steps
        self._reuse = reuse
        self._orthogonal = Remembered()

    def ascends(self, gradient: Vector, now: TrainingStep) -> bool:
        """Whether it is the k-th."""
        return now.step % self._steps == 0

    def observe(self, params: Vector, g: Vector, h: Vector) -> None:
        """Keep the orthogonal part."""
        if self._reuse:
            along = dot(g, h) / dot(g, g).clamp(min=EPS**2)
            self._orthogonal.keep(params, torch._foreach_sub(h, torch._foreach_mul(g, along)))

    def substitute(self, params: Vector, g: Vector) -> Vector:
        """G, with the orthogonal part of the last h."""
        if not self._orthogonal:
            return g
        v = self._orthogonal.of(params)
        factor = self._reuse * norm(g) / norm(v).clamp(min=EPS)
        return torch._foreach_add(g, torch._foreach_mul(v, factor))

    def state_dict(self, params: Vector) -> dict[str, Any]:
        """The orthogonal part, where it is used."""
        return {"orthogonal": self._orthogonal.state_dict(params)} if self._reuse else {}

    def load_state_dict(self, state: dict[str, Any], params: Vector) -> None:
        """Take it up."""
        if self._reuse:
            self._orthogonal.load_state_dict(state["orthogonal"], params)


class AtRandom(Always):
    """With a probability, at each step anew (SS-SAM, Zhao et al. 2022, arXiv 2203.09962).

    Args:
        probability: Of a step to ascend.
        seed: Of the draws.
    """

    def __init__(self, probability: float = 0.5, seed: int = 0) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability={probability}: choose between 0 and 1")
        self._probability = probability
        self._seed = seed

    def ascends(self, gradient: Vector, now: TrainingStep) -> bool:
        """Draw it."""
        draws = generator(self._seed, "climbs", now.step)
        return bool(torch.rand((), generator=draws).item() < self._probability)


class LargeGradient(Always):
    """Where ‖g‖² is large for its recent past (AE-SAM, Jiang et al. 2023, arXiv 2304.14647).

    mu and sigma² are moving averages of ‖g‖² and of its squared distance from mu, with this step in
    them. A step ascends if ‖g‖² >= mu + c · sigma, c going linearly from ``start`` to ``end`` over
    the training: rarely at first, mostly at last. Both start at 0, so that the first step ascends
    where c <= 1 / sqrt(1 - delta).

    Args:
        decay: delta, of both averages.
        start: lambda_2.
        end: lambda_1.
    """

    needs_gradient = True

    def __init__(self, decay: float = 0.9, start: float = 1.0, end: float = -1.0) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay}: choose at least 0 and less than 1")
        self._decay = decay
        self._start = start
        self._end = end
        self._mean = 0.0
        self._variance = 0.0

    def ascends(self, gradient: Vector, now: TrainingStep) -> bool:
        """Take this gradient in and compare it."""
        square = norm(gradient).item() ** 2
        new = 1 - self._decay
        self._mean = self._decay * self._mean + new * square
        self._variance = self._decay * self._variance + new * (square - self._mean) ** 2
        threshold = self._start + (self._end - self._start) * now.progress
        return bool(square >= self._mean + threshold * self._variance**0.5)

    def state_dict(self, params: Vector) -> dict[str, Any]:
        """Both averages."""
        return {"mean": self._mean, "variance": self._variance}

    def load_state_dict(self, state: dict[str, Any], params: Vector) -> None:
        """Take them up."""
        self._mean, self._variance = state["mean"], state["variance"]
