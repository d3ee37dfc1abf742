"""Optimizers as compositions: one or two gradients, a rule that mixes them, a torch optimizer.

Usable in any training loop::

    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    optimizer = SAM(base, rho=0.1, second_pass=frozen_statistics(model))
    for images, labels in loader:
        optimizer.step(lambda: loss_fn(model(images), labels))
"""

# the optimizers
from samsweep.optim.base import ClosureOptimizer, GradientDescent, StepResult
from samsweep.optim.sam import SAM
from samsweep.optim.sgdhess import OutputOf, SGDHess

# what they are composed of
from samsweep.optim.ascent import (
    Ascent,
    adaptive,
    named_weights,
    per_tensor,
    perturbed,
    plain,
    unified,
    unnormalized,
)
from samsweep.optim.directions import (
    AscentDirection,
    AverageDirection,
    FriendlyDirection,
    LastGradient,
    MomentumDirection,
    RandomDirection,
)
from samsweep.optim.frozen_statistics import frozen_statistics
from samsweep.optim.batched_parts import BatchedParts
from samsweep.optim.combine import combine, gsam, saner, wsam
from samsweep.optim.training_step import Length, TrainingStep
from samsweep.optim.selection import select
from samsweep.optim.when import Always, AtRandom, Epochs, Every, LargeGradient

# from a configuration
from samsweep.optim.build import build_base, build_optimizer

__all__ = [
    "SAM",
    "Always",
    "Ascent",
    "AscentDirection",
    "AtRandom",
    "AverageDirection",
    "BatchedParts",
    "ClosureOptimizer",
    "Epochs",
    "Every",
    "FriendlyDirection",
    "GradientDescent",
    "LargeGradient",
    "LastGradient",
    "Length",
    "TrainingStep",
    "MomentumDirection",
    "OutputOf",
    "RandomDirection",
    "SGDHess",
    "StepResult",
    "adaptive",
    "build_base",
    "build_optimizer",
    "combine",
    "frozen_statistics",
    "gsam",
    "named_weights",
    "per_tensor",
    "perturbed",
    "plain",
    "saner",
    "select",
    "unified",
    "unnormalized",
    "wsam",
]
