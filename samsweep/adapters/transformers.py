"""Hugging Face's ``Trainer``, which calls ``backward`` and then ``step()`` without a closure."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

from samsweep.optim import ClosureOptimizer


class _AtTheStart(TrainerCallback):  # type: ignore[misc]
    """Does something when a training begins, which an interrupted one may have left undone."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Called by the Trainer."""
        self._action()


class ReplayTrainer(Trainer):  # type: ignore[misc]
    """A ``Trainer`` whose optimizer may take a second pass over the mini-batches of a step.

    Give it a :class:`~samsweep.optim.ClosureOptimizer` as ``optimizers=(optimizer, scheduler)``. Of
    ``gradient_accumulation_steps`` micro-batches all are taken again, and ``max_grad_norm`` clips
    the gradients of both passes.

    Raises:
        ValueError: If the optimizer is another, or the arguments ask for float16.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        optimizer = self.optimizer
        if not isinstance(optimizer, ClosureOptimizer):
            raise ValueError(
                "ReplayTrainer is for an optimizer of samsweep.optim: give "
                "optimizers=(SAM(model.parameters(), base=torch.optim.AdamW, rho=0.05), None)"
            )
        if self.args.fp16:
            raise ValueError("fp16=True scales losses out of an optimizer's sight: take bf16=True")
        self._taken: list[tuple[nn.Module, dict[str, Any], Any]] = []
        optimizer.replay = self._replay
        optimizer.register_step_post_hook(lambda *_: self._taken.clear())
        self.add_callback(_AtTheStart(self._taken.clear))

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """One micro-batch forward and backward, which is kept for the second pass."""
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        self._taken.append((model, inputs, num_items_in_batch))
        return loss

    def _replay(self) -> Tensor:
        """The micro-batches of the step again; returns the loss."""
        losses = []
        for place, (model, inputs, num_items) in enumerate(self._taken, start=1):
            is_last = place == len(self._taken)
            with nullcontext() if is_last else self.accelerator.no_sync(model):
                losses.append(super().training_step(model, inputs, num_items))
        if self.args.max_grad_norm:
            params = self._taken[0][0].parameters()
            self.accelerator.clip_grad_norm_(params, self.args.max_grad_norm)
        return torch.stack(losses).sum()
