"""SAM and its family: two gradients and a rule that mixes them.

Algorithm, with g the gradient at w (Foret et al. 2021, arXiv 2010.01412, algorithm 1):

1. ascend: epsilon = ascent(w, d, rho), with d a direction, g or another
2. h = gradient of the same mini-batch at w + epsilon; return to w
3. hand ``combine(g, h, direction, magnitude, granularity)`` to the base optimizer

``direction="sam", magnitude="sam"`` is SAM. The study's SAMDIRECTION takes only the direction
from h, SAMMAGNITUDE only the magnitude (Luong 2024, section 3; its published code has the two
names the other way round, we follow its text).

Each part can be another: :mod:`~samsweep.optim.directions` (d), :mod:`~samsweep.optim.ascent`
(how epsilon is normalised), :mod:`~samsweep.optim.selection` (what is perturbed),
:mod:`~samsweep.optim.when` (at which steps), :mod:`~samsweep.optim.radius` (rho over time),
:mod:`~samsweep.optim.combine` (the rule). Several closures in place of one are parts of the
mini-batch with an epsilon each.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from samsweep.config import Granularity, Source
from samsweep.numerics.vectors import Vector
from samsweep.optim.ascent import (
    Ascent,
    perturbed,
    plain,
)
from samsweep.optim.base import (
    ClosureOptimizer,
    Closures,
    MakeBase,
    StepResult,
    checked_rho,
)
from samsweep.optim.batched_parts import BatchedParts, Moves
from samsweep.optim.combine import check_rule, combine
from samsweep.optim.directions import AscentDirection
from samsweep.optim.passes import AfterBackward, Closure, Pass, SameDraws, is_distributed, take_pass
from samsweep.optim.radius import constant
from samsweep.optim.selection import Choice
from samsweep.optim.training_step import Length, TrainingStep
from samsweep.optim.when import Always

#: g and h to a vector of their shapes.
Combination = Callable[[Vector, Vector], Vector]

#: A step of the training to a factor of the radius.
Radius = Callable[[TrainingStep], float]


class SAM(ClosureOptimizer):
    """Sharpness-Aware Minimization, the hybrids between it and its base optimizer, and its family.

    ``step`` takes several closures as well, one for each part of the mini-batch, of equal sizes:
    each ascends along its own gradient, and gradients are averaged. Parts of m examples are m-SAM
    (Foret et al. 2021, section 4.1; Andriushchenko & Flammarion 2022, arXiv 2206.06232). As
    :class:`~samsweep.optim.batched_parts.BatchedParts` several are one pass.

    A step whose direction needs no gradient at w, and whose vector is h, takes one pass: what its
    result calls clean, the loss and the gradient, is then of w + epsilon.

    Args:
        params: A torch optimizer, or parameters of which ``base`` makes one. Weight decay and
            momentum are its own. A parameter group with ``rho`` has a radius of its own: its part
            of epsilon is scaled by that over ``rho``.
        base: The class of the torch optimizer, any but LBFGS.
        rho: Radius of the perturbation, at least 0.
        direction: Source of the direction, see :func:`~samsweep.optim.combine`.
        magnitude: Source of the magnitude.
        granularity: What direction and magnitude mean.
        combination: What makes the vector of g and h, in place of the three above.
        ascent: How epsilon is made of a direction; see :mod:`~samsweep.optim.ascent`.
        ascent_direction: Along what to ascend.
        ascent_steps: Steps of rho / k in place of one, each along the gradient where it starts;
            normalised, they stay within rho of w (Foret et al. 2021, appendix C.6, with
            projection).
        perturbs: Which parameters are perturbed; None is all. Norms are of these alone.
        when: At which steps to ascend.
        radius: Factor of rho over time.
        length: Of the training, for what depends on it.
        second_pass: A reusable context manager around the second pass. With batch norm use
            :class:`~samsweep.optim.frozen_statistics.frozen_statistics`, so that running
            statistics move once per step.
        each_rank: Whether each rank of a ``DistributedDataParallel`` ascends along the gradient of
            its own examples, as the authors' code does (m-sharpness, m those of a rank), in place
            of all along their mean. What is handed on is a mean in any case.
        same_draws: Whether all passes of a step draw the same from torch's generators, dropout's
            masks and whole layers of stochastic depth, in place of each its own, as published codes
            do.
        keep_strides: Whether both passes see weights of the same strides, as compiled passes must;
            see :func:`~samsweep.optim.ascent.perturbed`.
        base_args: Of the class, such as ``lr``.

    Raises:
        ValueError: If rho is negative or not finite, a name is unknown, or values exclude each
            other.

    >>> layer = torch.nn.Linear(2, 1)
    >>> optimizer = SAM(layer.parameters(), base=torch.optim.SGD, lr=0.1, momentum=0.9, rho=0.05)
    >>> result = optimizer.step(lambda: layer(torch.ones(4, 2)).square().mean())
    >>> bool(result.loss_perturbed >= result.loss)
    True
    """

    def __init__(
        self,
        params: torch.optim.Optimizer | Iterable[Any] | None = None,
        *,
        base: torch.optim.Optimizer | MakeBase | None = None,
        rho: float,
        direction: Source = "sam",
        magnitude: Source = "sam",
        granularity: Granularity = "element",
        combination: Combination | None = None,
        ascent: Ascent = plain,
        ascent_direction: AscentDirection | None = None,
        ascent_steps: int = 1,
        perturbs: Choice | None = None,
        when: Always | None = None,
        radius: Radius = constant,
        length: Length | None = None,
        second_pass: AbstractContextManager[object] | None = None,
        each_rank: bool = False,
        same_draws: bool = False,
        keep_strides: bool = False,
        **base_args: Any,
    ) -> None:
        super().__init__(params, base=base, **base_args)
        self.rho = checked_rho(rho)
        check_rule(direction, magnitude, granularity)
        self._combine: Combination = combination or partial(
            combine, direction=direction, magnitude=magnitude, granularity=granularity
        )
        self._ascent = ascent
        self._ascent_takes_step = "step" in inspect.signature(ascent).parameters
        self._direction = ascent_direction or AscentDirection()
        self._ascent_steps = ascent_steps
        self._perturbs = perturbs
        self._when = when or Always()
        #: Factor of rho at a step.
        self.radius = radius
        self._length = length
        self._second_pass = second_pass if second_pass is not None else nullcontext()
        self._each_rank = each_rank
        self._same_draws = same_draws
        self._keep_strides = keep_strides
        self.num_steps = 0
        rates = [float(g.get("initial_lr", g.get("lr", 0.0))) for g in self.param_groups]
        #: The first group that learns, and its learning rate as built: what later ones are a share
        #: of.
        self._learns = next((place for place, rate in enumerate(rates) if rate), 0)
        self._peak_lr = rates[self._learns] or 1.0
        own = [checked_rho(group["rho"]) for group in self._groups_with_rho()]
        if rho == 0 and any(own):
            raise ValueError(f"rho=0, but a parameter group has rho={max(own)}: give a rho above 0")
        takes_h = combination is None and (direction, magnitude) == ("sam", "sam")
        self._one_pass = takes_h and not (
            self._direction.needs_gradient or self._when.needs_gradient
        )
        follows_gradient = type(self._direction) is AscentDirection
        if ascent_steps < 1 or (ascent_steps > 1 and not follows_gradient):
            raise ValueError(
                f"ascent_steps={ascent_steps}: choose at least 1, and 1 unless the direction is "
                "the gradient"
            )
        #: Whether epsilon is rho along ĝ, so that h - g is curvature along the gradient.
        rule = getattr(ascent, "func", ascent)
        self._is_textbook = (
            follows_gradient
            and ascent_steps == 1
            and perturbs is None
            and not own
            and rule is plain
        )

    @property
    def recordable(self) -> bool:
        """Whether it ascends along the gradient, by the same radius at each step."""
        return (
            type(self._direction) is AscentDirection
            and type(self._when) is Always
            and self.radius is constant
            and not self._ascent_takes_step
            and not self._same_draws
        )

    # ---------------------------------------------------------------- state

    def _own_state(self) -> dict[str, Any]:
        """The number of steps, and what the parts remember."""
        return {
            "num_steps": self.num_steps,
            "direction": self._direction.state_dict(self.params),
            "when": self._when.state_dict(self.params),
        }

    def _load_own_state(self, state: dict[str, Any]) -> None:
        """Take it up, or one of before there was any."""
        if state:
            self.num_steps = state["num_steps"]
            self._direction.load_state_dict(state["direction"], self.params)
            self._when.load_state_dict(state["when"], self.params)

    # ---------------------------------------------------------------- a step

    def _compute(self, closure: Closures) -> StepResult:
        closures = self._prepared([closure] if callable(closure) else closure)
        if len(closures) > 1 and not self._direction.takes_parts:
            raise ValueError(
                f"{type(self._direction).__name__} is one of the whole mini-batch, or of earlier "
                "ones, not of its parts: give one closure"
            )
        now = self._step_now()
        self.num_steps += 1
        if self._one_pass:
            return self._at_once(closures, now)
        clean = self._clean_passes(closures)
        params, g = clean[0].params, _mean([part.averaged().gradient for part in clean])
        loss = _mean_of([part.loss for part in clean])
        if not self._when.ascends(g, now):
            self._direction.observe(params, g)
            update = self._when.substitute(params, g)
            return StepResult(loss=loss, params=params, grad_clean=g, update=update)
        rho = self.rho * self.radius(now)
        gradients = [part.gradient for part in clean]
        if isinstance(closures, BatchedParts):
            ascended = self._ascend_together(closures, params, gradients, rho, now)
        else:
            ascended = [
                self._ascend(one, params, gradient, rho, now)
                for one, gradient in zip(closures, gradients, strict=True)
            ]
        h = _mean([part.gradient for part in ascended])
        self._direction.observe(params, h)
        self._when.observe(params, g, h)
        return StepResult(
            loss=loss,
            params=params,
            grad_clean=g,
            update=self._combine(g, h),
            loss_perturbed=_mean_of([part.loss for part in ascended]),
            grad_perturbed=h,
            rho=rho if self._is_textbook and len(closures) == 1 else None,
        )

    def _prepared(self, closures: Sequence[Closure]) -> Sequence[Closure]:
        """The closures, which draw the same in all passes if they are to.

        Raises:
            ValueError: If these closures cannot, or if their losses cannot be scaled.
        """
        if isinstance(closures, BatchedParts):
            if self.scaler is not None or self._same_draws:
                raise ValueError(
                    "parts as one pass have no scaler and draw anew: give a closure for each"
                )
            return closures
        if any(isinstance(one, AfterBackward) for one in closures):
            if self._same_draws:
                raise ValueError("same_draws needs a closure: what was drawn before is unknown")
            if self._each_rank and is_distributed():
                raise ValueError("each_rank needs a closure: gradients that are there are means")
        if not self._same_draws:
            return closures
        return [SameDraws(one, self.params) for one in closures]

    def _step_now(self) -> TrainingStep:
        lr = float(self.base.param_groups[self._learns].get("lr", self._peak_lr))
        return TrainingStep(step=self.num_steps, lr_share=lr / self._peak_lr, length=self._length)

    def _at_once(self, closures: Sequence[Closure], now: TrainingStep) -> StepResult:
        """One pass, at w + epsilon, or at w where the step does not ascend."""
        params, gradient = self.params, ()
        if self._when.ascends(gradient, now):
            rho = self.rho * self.radius(now)
            passes = []
            for closure in closures:
                if isinstance(closure, AfterBackward):
                    closure.discard()
                held = self._perturbation(params, gradient, rho, now)
                with perturbed(*held, keep_strides=self._keep_strides):
                    passes.append(self._pass(closure, params))
        else:
            passes = [self._pass(closure, params) for closure in closures]
        used, h = passes[0].params, _mean([part.gradient for part in passes])
        self._direction.observe(used, h)
        loss = _mean_of([part.loss for part in passes])
        return StepResult(loss=loss, params=used, grad_clean=h, update=h)

    def _clean_passes(self, closures: Sequence[Closure]) -> list[Pass]:
        if isinstance(closures, BatchedParts):
            return self._passes_together(closures, self.params)
        return [self._pass(one, self.params, average=not self._each_rank) for one in closures]

    def _pass(
        self, closure: Closure, params: Vector, *, every: bool = False, average: bool = True
    ) -> Pass:
        """Loss and gradient where the weights are."""
        found = take_pass(closure, params, every=every, average=average, scaler=self.scaler)
        return replace(found, gradient=self.clipped(found.gradient))

    def _ascend(
        self, closure: Closure, params: Vector, gradient: Vector, rho: float, now: TrainingStep
    ) -> Pass:
        """Loss and gradient at w + epsilon, which is let go of before the last pass."""
        short = rho / self._ascent_steps
        moved, epsilon = self._perturbation(params, gradient, short, now)
        for _ in range(self._ascent_steps - 1):
            there = self._pass_at(closure, params, moved, [epsilon])
            _, further = self._perturbation(params, there.gradient, short, now)
            epsilon = torch._foreach_add(epsilon, further)
        held = [epsilon]
        del epsilon
        return self._pass_at(closure, params, moved, held)

    def _pass_at(
        self, closure: Closure, params: Vector, moved: Vector, epsilon: list[Vector]
    ) -> Pass:
        ascended = perturbed(moved, epsilon.pop(), keep_strides=self._keep_strides)
        with ascended, self._second_pass:
            # What this pass leaves out, such as a layer by stochastic depth, has a gradient of 0.
            return self._pass(closure, params, every=True)

    def _ascend_together(
        self,
        parts: BatchedParts,
        params: Vector,
        gradients: Sequence[Vector],
        rho: float,
        now: TrainingStep,
    ) -> list[Pass]:
        """:meth:`_ascend` of all parts, each from its own gradient."""
        short = rho / self._ascent_steps
        moves = [self._perturbation(params, g, short, now) for g in gradients]
        moved, epsilons = moves[0][0], [epsilon for _, epsilon in moves]
        with self._second_pass:
            for _ in range(self._ascent_steps - 1):
                there = self._passes_together(parts, params, (moved, epsilons))
                further = [self._perturbation(params, x.gradient, short, now)[1] for x in there]
                pairs = zip(epsilons, further, strict=True)
                epsilons = [torch._foreach_add(a, b) for a, b in pairs]
            return self._passes_together(parts, params, (moved, epsilons))

    def _passes_together(
        self, parts: BatchedParts, params: Vector, moves: Moves | None = None
    ) -> list[Pass]:
        found = parts.gradients(params, moves)
        return [Pass(loss, params, self.clipped(gradient)) for loss, gradient in found]

    def _perturbation(
        self, params: Vector, gradient: Vector, rho: float, now: TrainingStep
    ) -> tuple[Vector, Vector]:
        """The parameters that move, and by what."""
        direction = self._direction(params, gradient, now)
        if self._perturbs is not None:
            chosen = [i for i, p in enumerate(params) if self._perturbs(p)]
            params, direction = [params[i] for i in chosen], [direction[i] for i in chosen]
        extra = {"step": now.step} if self._ascent_takes_step else {}
        epsilon = self._ascent(params, direction, rho, **extra)
        shares = self._radius_shares()
        if shares:
            epsilon = torch._foreach_mul(epsilon, [shares.get(id(p), 1.0) for p in params])
        return params, epsilon

    def _radius_shares(self) -> dict[int, float]:
        """The radius of parameters in a group with its own, relative to ``rho``."""
        return {
            id(p): group["rho"] / self.rho
            for group in self._groups_with_rho()
            if self.rho
            for p in group["params"]
        }

    def _groups_with_rho(self) -> list[dict[str, Any]]:
        """Those with a radius; Adadelta calls something else so, and has it in its defaults."""
        if "rho" in self.base.defaults:
            return []
        return [group for group in self.base.param_groups if "rho" in group]


def _mean(vectors: Sequence[Vector]) -> Vector:
    """Of vectors of parts of equal sizes."""
    if len(vectors) == 1:
        return vectors[0]
    total = vectors[0]
    for vector in vectors[1:]:
        total = torch._foreach_add(total, vector)
    return torch._foreach_div(total, len(vectors))


def _mean_of(losses: Sequence[Tensor]) -> Tensor:
    return losses[0] if len(losses) == 1 else torch.stack(list(losses)).mean()
