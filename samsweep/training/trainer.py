"""The training of one network: everything that changes from step to step, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map_only

from samsweep.config import CellConfig
from samsweep.data.augment import augment, draw
from samsweep.data.images import ImageData
from samsweep.models import build_model
from samsweep.numerics.seeding import derive_seed, generator
from samsweep.numerics.vectors import norm
from samsweep.optim import StepResult, build_optimizer
from samsweep.training.cuda_graphs import Recording
from samsweep.training.diagnostics import diagnose
from samsweep.training.schedule import learning_rate

#: A mini-batch's images and labels to its step, and the number of images that were right, 0-d.
Compute = Callable[[Tensor, Tensor], tuple[StepResult, Tensor]]
Diagnose = Callable[[StepResult], dict[str, Tensor]]


class Trainer:
    """A network on its way from initialisation to the last epoch.

    Initialisation, batch order and augmentation depend only on (seed, epoch, step): cells of one
    seed are paired, and a trainer that loads another's state continues as that one would have.

    Args:
        cell: What to train.
        data: The images, on the device to train on.
        diagnostics_every: Steps between two records of the gradients' diagnostics; the first step
            of an epoch is always recorded.
        compiled: Whether both passes of a step are one graph made by ``torch.compile``, and the
            update is fused. Results differ from those without it by the rounding of float32.
            Ignored where a step differentiates twice, which such graphs cannot.
        cuda_graphs: Whether steps are launched from a recording, with the same results. Ignored on
            a CPU, and where a step differentiates twice.
    """

    def __init__(
        self,
        cell: CellConfig,
        data: ImageData,
        *,
        diagnostics_every: int,
        compiled: bool = False,
        cuda_graphs: bool = False,
    ) -> None:
        self.cell = cell
        self.data = data
        self.device = data.train.labels.device
        # Convolutions are faster with channels last, on a CPU as well.
        self.model = initial_model(cell, data).to(self.device)
        self.model.to(memory_format=torch.channels_last)
        compiled = compiled and cell.variant.compilable
        self.optimizer = build_optimizer(
            cell.variant,
            cell.recipe,
            self.model,
            seed=cell.seed,
            fused=compiled,
            # On a CPU plain steps keep the bits that they have always had.
            keep_strides=compiled or self.device.type == "cuda",
        )
        #: The network as the steps see it; its parameters are the model's.
        self._network: Callable[[Tensor], Tensor] = self.model
        if compiled:
            # Cells side by side share the cores; torch would start a process for each core.
            os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(torch.get_num_threads()))
            # Graphs of other trainers count against a limit, beyond which none is made.
            torch._dynamo.reset()
            self._network = torch.compile(self.model, dynamic=False)
        self._records = cuda_graphs and cell.variant.compilable and self.device.type == "cuda"
        self._recorded: tuple[Compute, Diagnose] | None = None
        self.steps_per_epoch = len(data.train) // cell.recipe.batch_size
        #: Complete epochs, and complete steps of the current one.
        self.epoch = 0
        self.step = 0
        self._diagnostics_every = diagnostics_every
        self._meter = _EpochMeter.on(self.device)

    @property
    def total_steps(self) -> int:
        """Optimizer steps taken since initialisation."""
        return self.epoch * self.steps_per_epoch + self.step

    def run_epoch(self, after_step: Callable[[], None]) -> dict[str, Any]:
        """Train to the end of the current epoch.

        Args:
            after_step: Called at every step boundary; may raise to stop there.

        Returns:
            The epoch's line of the history, without validation.
        """
        order = torch.randperm(
            len(self.data.train), generator=generator(self.cell.seed, "order", self.epoch)
        )
        self.model.train()
        while self.step < self.steps_per_epoch:
            size = self.cell.recipe.batch_size
            self.take_step(order[self.step * size : (self.step + 1) * size])
            after_step()
        row = {"epoch": self.epoch + 1, "lr": self._lr(self.step - 1), **self._meter.summary()}
        row["weight_norm"] = self.weight_norm()
        if "layer_cosines" in row:
            layers = [name for name, p in self.model.named_parameters() if p.ndim > 1]
            row["layer_cosines"] = dict(zip(layers, row["layer_cosines"], strict=True))
        self.epoch, self.step = self.epoch + 1, 0
        self._meter = _EpochMeter.on(self.device)
        return row

    def take_step(self, indices: Tensor) -> None:
        """One optimizer step on the training images of these indices, shape (B,)."""
        for group in self.optimizer.base.param_groups:
            group["lr"] = self._lr(self.step)
        with_diagnostics = self.step % self._diagnostics_every == 0
        images, labels = self._batch(indices)
        compute, diagnose = self._step_functions(images, labels)
        result, num_correct = compute(images, labels)
        self.optimizer.apply(result)
        self._meter.add(
            result.loss,
            num_correct,
            len(indices),
            diagnostics=diagnose(result) if with_diagnostics else {},
        )
        self.step += 1

    def weight_norm(self) -> float:
        """Euclidean norm of all trainable parameters together."""
        return norm([p.detach() for p in self.optimizer.params]).item()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on: tensors and plain values."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "meter": dict(vars(self._meter)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that :meth:`state_dict` gave."""
        self.epoch, self.step = state["epoch"], state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        sums = tree_map_only(Tensor, lambda x: x.to(self.device, copy=True), state["meter"])
        self._meter = _EpochMeter(**sums)

    def _batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Augmented, normalised images and labels of one mini-batch."""
        config, train = self.cell.dataset.augment, self.data.train
        draws = draw(
            config,
            len(indices),
            train.images.shape[-1],
            generator(self.cell.seed, "augment", self.epoch, self.step),
        )
        images, labels = train.batch(indices)
        augmented = augment(images, draws, config, self.data.mean, self.data.std)
        return augmented.contiguous(memory_format=torch.channels_last), labels

    def _compute(self, images: Tensor, labels: Tensor) -> tuple[StepResult, Tensor]:
        """Everything of a step but the update, and how many images were right before it, 0-d."""
        num_correct: list[Tensor] = []
        reduced = self.cell.recipe.precision == "bfloat16"

        def loss() -> Tensor:
            with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=reduced):
                logits = self._network(images).float()
            if not num_correct:  # of the first pass, at w
                num_correct.append((logits.detach().argmax(dim=1) == labels).sum())
            return F.cross_entropy(logits, labels)

        return self.optimizer.compute(loss), num_correct[0]

    def _step_functions(self, images: Tensor, labels: Tensor) -> tuple[Compute, Diagnose]:
        """What computes a step and its diagnostics, as CUDA graphs where that is wanted.

        All mini-batches have the shape of the first.
        """
        if not self._records:
            return self._compute, diagnose
        if self._recorded is None:
            step = Recording(
                self._compute, images, labels, device=self.device, keep=self.model.buffers()
            )
            numbers = Recording(lambda: diagnose(step.result[0]), device=self.device, after=step)
            self._recorded = step.replay, lambda _: numbers.replay()
        return self._recorded

    def _lr(self, step: int) -> float:
        return learning_rate(
            self.cell.recipe, epoch=self.epoch, step=step, steps_per_epoch=self.steps_per_epoch
        )


def initial_model(cell: CellConfig, data: ImageData) -> nn.Module:
    """The network as it starts, on the CPU; the same for every variant of one model and seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(cell.seed, "init"))
        return build_model(
            cell.model.name,
            in_channels=data.train.images.shape[1],
            num_classes=data.num_classes,
        )


@dataclass(kw_only=True)
class _EpochMeter:
    """Sums over the steps of an epoch, kept on the device so that no step waits for it."""

    loss: Tensor
    correct: Tensor
    num_steps: int = 0
    num_images: int = 0
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    num_diagnosed: int = 0

    @classmethod
    def on(cls, device: torch.device) -> Self:
        """All sums at zero."""
        return cls(
            loss=torch.zeros((), dtype=torch.float64, device=device),
            correct=torch.zeros((), dtype=torch.int64, device=device),
        )

    def add(
        self,
        loss: Tensor,
        num_correct: Tensor,
        num_images: int,
        *,
        diagnostics: Mapping[str, Tensor],
    ) -> None:
        """Take in one step, with its diagnostics if they were recorded."""
        self.loss += loss
        self.correct += num_correct
        self.num_steps += 1
        self.num_images += num_images
        if diagnostics:
            self.num_diagnosed += 1
            for name, value in diagnostics.items():
                self.diagnostics[name] = self.diagnostics.get(name, 0) + value.double()

    def summary(self) -> dict[str, Any]:
        """Means over the steps; the one moment when the device is waited for."""
        means = {name: (x / self.num_diagnosed).tolist() for name, x in self.diagnostics.items()}
        return {
            "train_loss": self.loss.item() / self.num_steps,
            "train_accuracy": 100.0 * self.correct.item() / self.num_images,
            **means,
        }
