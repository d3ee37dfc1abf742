"""What a network is trained to do: its loss and what it is scored by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samsweep.config import LOSSES, METRICS, ConfigError, RecipeConfig
from samsweep.config.factory import bound
from samsweep.training.metrics import num_correct

Function = Callable[[Tensor, Tensor], Tensor]


class Task:
    """Loss and metric of a recipe.

    Args:
        recipe: Names them, with their arguments.
        device: Where outputs are, for losses with tensors of their own.
    """

    def __init__(self, recipe: RecipeConfig, device: torch.device | None = None) -> None:
        self._recipe = recipe
        self._device = device
        self._higher_is_better = METRICS.find(recipe.metric or "accuracy").higher_is_better
        #: Whether the score is a count, of examples that are right.
        self._counts = recipe.metric is None

    def best(self, history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """The line of a history, which has some, with the best validation; the first of equals."""
        return max(history, key=self._rank)

    def is_better(self, row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        """Whether a line of a history has better validation than another."""
        return self._rank(row) > self._rank(other)

    def _rank(self, row: Mapping[str, Any]) -> float:
        validation = float(row["val_accuracy"])
        return validation if self._higher_is_better else -validation

    @cached_property
    def loss(self) -> Function:
        """Mean loss of outputs (N, ...) and labels, 0-d.

        Raises:
            ConfigError: When it is called, if it gives no scalar.
        """
        recipe = self._recipe
        name = recipe.loss or "cross_entropy"
        component = LOSSES.find(name)
        args = component.with_args(recipe.loss_args)
        if recipe.label_smoothing is not None:
            args["label_smoothing"] = recipe.label_smoothing
        if recipe.loss is None and not args:
            return F.cross_entropy
        function = bound(f"loss={name}", component.factory, args)
        if isinstance(function, nn.Module):
            function = function.to(self._device)

        def loss(outputs: Tensor, labels: Tensor) -> Tensor:
            found = function(aligned(outputs, labels), labels)
            if not isinstance(found, Tensor) or found.ndim:
                shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise ConfigError(f"loss={name} gives {shape}, not a scalar: take the mean.")
            return found

        return loss

    @cached_property
    def metric(self) -> Function:
        """What outputs and labels of a split are scored by, 0-d."""
        name = self._recipe.metric or "accuracy"
        component = METRICS.find(name)
        args = component.with_args(self._recipe.metric_args)
        function = bound(f"metric={name}", component.factory, args)
        return lambda outputs, labels: torch.as_tensor(
            function(aligned(outputs, labels), labels), dtype=torch.float64
        )

    def summed_loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The loss times the number of examples; of cross-entropy without smoothing."""
        if self._recipe.loss is None and not self._recipe.loss_args:
            return F.cross_entropy(outputs, labels, reduction="sum")
        return self.loss(outputs, labels) * len(labels)

    def batch_score(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The metric of a mini-batch times its examples; of accuracy the number that is right."""
        if self._counts:
            return num_correct(outputs, labels)
        return self.metric(outputs, labels) * len(labels)

    def mean_score(self, total: float, num_examples: int) -> float:
        """The mean over examples of what :meth:`batch_score` summed to."""
        return (100.0 if self._counts else 1.0) * total / num_examples


def aligned(outputs: Tensor, labels: Tensor) -> Tensor:
    """Outputs (N, 1) as (N,), where each label is one value to regress."""
    if labels.is_floating_point() and labels.ndim == 1 and outputs.ndim == 2:
        return outputs.squeeze(1) if outputs.shape[1] == 1 else outputs
    return outputs
