"""SAM and its hybrids: two gradients and a rule that mixes them.

Algorithm, with g the gradient at w (Foret et al. 2021, arXiv 2010.01412, algorithm 1):

1. climb: epsilon = ascent(w, g, rho)
2. h = gradient of the same mini-batch at w + epsilon; return to w
3. hand ``combine(g, h, direction, magnitude, granularity)`` to the base optimizer

``direction="sam", magnitude="sam"`` is SAM. The study's SAMDIRECTION takes only the direction
from h, SAMMAGNITUDE only the magnitude (Luong 2024, section 3; its published code has the two
names the other way round, we follow its text).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch

from samsweep.config import Granularity, Source
from samsweep.numerics.vectors import Vector
from samsweep.optim.ascent import Ascent, perturbed, plain
from samsweep.optim.base import Closure, ClosureOptimizer, StepResult, checked_rho, differentiate
from samsweep.optim.combine import check_rule, combine

#: g and h to a vector of their shapes.
Combination = Callable[[Vector, Vector], Vector]


class SAM(ClosureOptimizer):
    """Sharpness-Aware Minimization and the hybrids between it and its base optimizer.

    Args:
        base: Any torch optimizer; weight decay and momentum are its own.
        rho: Radius of the perturbation, at least 0.
        direction: Source of the direction, see :func:`~samsweep.optim.combine`.
        magnitude: Source of the magnitude.
        granularity: What direction and magnitude mean.
        combination: What makes the vector of g and h, in place of the three above.
        ascent: How to climb; :func:`~samsweep.optim.ascent.plain` or
            :func:`~samsweep.optim.ascent.adaptive`.
        second_pass: A reusable context manager around the second pass. With batch norm use
            :class:`~samsweep.optim.frozen_batch_norms.frozen_batchnorm`, so that running statistics
            move once per step.
        keep_strides: Whether both passes see weights of the same strides, as compiled passes must;
            see :func:`~samsweep.optim.ascent.perturbed`.

    Raises:
        ValueError: If rho is negative or not finite, or a name is unknown.

    >>> layer = torch.nn.Linear(2, 1)
    >>> base = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    >>> optimizer = SAM(base, rho=0.05)
    >>> result = optimizer.step(lambda: layer(torch.ones(4, 2)).square().mean())
    >>> bool(result.loss_perturbed >= result.loss)
    True
    """

    def __init__(
        self,
        base: torch.optim.Optimizer,
        *,
        rho: float,
        direction: Source = "sam",
        magnitude: Source = "sam",
        granularity: Granularity = "element",
        combination: Combination | None = None,
        ascent: Ascent = plain,
        second_pass: AbstractContextManager[object] | None = None,
        keep_strides: bool = False,
    ) -> None:
        super().__init__(base)
        self.rho = checked_rho(rho)
        check_rule(direction, magnitude, granularity)
        self._combine: Combination = combination or partial(
            combine, direction=direction, magnitude=magnitude, granularity=granularity
        )
        self._ascent = ascent
        self._second_pass = second_pass if second_pass is not None else nullcontext()
        self._keep_strides = keep_strides

    def _compute(self, closure: Closure) -> StepResult:
        loss = closure()
        params, gradient = differentiate(loss, self.params)
        g = self.clipped(gradient)
        climbed = perturbed(
            params, self._ascent(params, g, self.rho), keep_strides=self._keep_strides
        )
        with climbed, self._second_pass:
            loss_perturbed = closure()
            h = self.clipped(torch.autograd.grad(loss_perturbed, params))
        return StepResult(
            loss=loss.detach(),
            params=params,
            grad_clean=g,
            update=self._combine(g, h),
            loss_perturbed=loss_perturbed.detach(),
            grad_perturbed=h,
            rho=self.rho,
        )
