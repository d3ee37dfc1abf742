"""The training of one network: everything that changes from step to step, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._pytree import tree_map_only

from samsweep.config import MODELS, CellConfig
from samsweep.data.augment import augment, draw
from samsweep.data.mix import apply_policy, mix
from samsweep.data.splits import SplitData
from samsweep.models import build_model
from samsweep.numerics.seeding import derive_seed, generator, seed_global
from samsweep.numerics.vectors import norm
from samsweep.optim import BatchedParts, Length, StepResult, build_optimizer
from samsweep.training.cuda_graphs import Recording
from samsweep.training.diagnostics import diagnose
from samsweep.training.schedule import LearningRate
from samsweep.training.task import Task

#: A mini-batch's inputs and labels to its step, and its score before the step, 0-d.
Compute = Callable[[Tensor, Tensor], tuple[StepResult, Tensor]]
Diagnose = Callable[[StepResult], dict[str, Tensor]]

#: Kinds of components that a step calls before its update.
_IN_A_STEP = frozenset(
    "model loss metric optimizer combination ascent ascent_direction when rho_schedule".split()
)


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
        parts_at_once: Of the parts of m-SAM, how many are one pass; results differ by rounding.
    """

    def __init__(
        self,
        cell: CellConfig,
        data: SplitData,
        *,
        diagnostics_every: int,
        compiled: bool = False,
        cuda_graphs: bool = False,
        parts_at_once: int = 1,
    ) -> None:
        self.cell = cell
        self.data = data
        self.device = data.train.labels.device
        # Convolutions are faster with channels last, on a CPU as well.
        self.model = initial_model(cell, data).to(self.device)
        self.model.to(memory_format=torch.channels_last)
        self._average: AveragedModel | None = None
        if cell.recipe.ema is not None:
            # Before an optimizer hooks into the model. Statistics of batch norm are averaged too.
            averages = get_ema_multi_avg_fn(cell.recipe.ema)  # type: ignore[no-untyped-call]
            self._average = AveragedModel(self.model, multi_avg_fn=averages, use_buffers=True)
        self.task = Task(cell.recipe, self.device)
        compiled = compiled and cell.variant.compilable
        self.optimizer = build_optimizer(
            cell.variant,
            cell.recipe,
            self.model,
            seed=cell.seed,
            fused=compiled,
            length=Length(len(data.train) // cell.recipe.batch_size, cell.recipe.epochs),
            # On a CPU plain steps keep the bits that they have always had.
            keep_strides=compiled or self.device.type == "cuda",
        )
        #: The network as the steps see it; its parameters are the model's.
        self._network = self.model
        if compiled:
            # Cells side by side share the cores; torch would start a process for each core.
            os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(torch.get_num_threads()))
            # Graphs of other trainers count against a limit, beyond which none is made.
            torch._dynamo.reset()
            self._network = cast(nn.Module, torch.compile(self.model, dynamic=False))
        self._parts_at_once = parts_at_once
        others = {kind for kind, component in cell.components() if not component.ours}
        # They may draw random numbers, which a recording would repeat, or wait for the device.
        self._draws = bool(others & _IN_A_STEP)
        self._update_draws = "base" in others
        same = cell.variant.compilable and not self._draws and self.optimizer.recordable
        can_record = same and parts_at_once == 1 and self.device.type == "cuda"
        self._records = cuda_graphs and can_record
        self._recorded: tuple[Compute, Diagnose] | None = None
        self.steps_per_epoch = len(data.train) // cell.recipe.batch_size
        self.learning_rate = LearningRate(cell.recipe, steps_per_epoch=self.steps_per_epoch)
        #: Complete epochs, and complete steps of the current one.
        self.epoch = 0
        self.step = 0
        self._diagnostics_every = diagnostics_every
        named = self.model.named_parameters()
        #: The weights of which diagnostics have a cosine, by their names.
        self._layers = {name: p for name, p in named if p.ndim > 1 and p.requires_grad}
        self._meter = _EpochMeter.on(self.device)

    @property
    def evaluated(self) -> nn.Module:
        """The network that is evaluated and kept: as trained, or with averaged weights."""
        return self.model if self._average is None else self._average.module

    @property
    def train_loss(self) -> float:
        """Mean loss of the steps of this epoch so far, before their updates."""
        return self._meter.mean_loss

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
        self._switch_base("eval")
        row = {
            "epoch": self.epoch + 1,
            "lr": self.learning_rate.at(epoch=self.epoch, step=self.step - 1),
            **self._meter.summary(self.task),
        }
        row["weight_norm"] = self.weight_norm()
        if "layer_cosines" in row:
            row["layer_cosines"] = dict(zip(self._layers, row["layer_cosines"], strict=True))
        self.epoch, self.step = self.epoch + 1, 0
        self._meter = _EpochMeter.on(self.device)
        return row

    def take_step(self, indices: Tensor) -> None:
        """One optimizer step on the training images of these indices, shape (B,)."""
        self._switch_base("train")
        lr = self.learning_rate.at(epoch=self.epoch, step=self.step)
        for group in self.optimizer.base.param_groups:
            group["lr"] = lr * group.get("lr_factor", 1.0)
        with_diagnostics = self.step % self._diagnostics_every == 0
        inputs, labels = self._batch(indices)
        compute, diagnose = self._step_functions(inputs, labels)
        result, score = compute(inputs, labels)
        if self._update_draws:
            seed_global(derive_seed(self.cell.seed, "update", self.epoch, self.step))
        # Before the update, which with Nesterov momentum changes the vector that it is handed.
        diagnostics = self._of_all_layers(diagnose(result), result) if with_diagnostics else {}
        self.optimizer.apply(result)
        if self._average is not None:
            self._average.update_parameters(self.model)
        self._meter.add(
            result.loss,
            score,
            len(indices),
            diagnostics=diagnostics,
        )
        self.step += 1

    def _switch_base(self, mode: str) -> None:
        """Between weights to train and weights to score, for bases that have both.

        Schedule-free ones (Defazio et al. 2024, arXiv 2405.15682) score an average.
        """
        switch = getattr(self.optimizer.base, mode, None)
        if callable(switch):
            switch()

    def _of_all_layers(
        self, diagnostics: dict[str, Tensor], result: StepResult
    ) -> dict[str, Tensor]:
        """With a cosine for each layer: 0 for one that this step had no gradient of."""
        cosines = diagnostics.get("layer_cosines")
        if cosines is None or len(cosines) == len(self._layers):
            return diagnostics
        used = {id(p) for p in result.params}
        there = [place for place, p in enumerate(self._layers.values()) if id(p) in used]
        placed = cosines.new_zeros(len(self._layers))
        placed[there] = cosines
        return diagnostics | {"layer_cosines": placed}

    def weight_norm(self) -> float:
        """Euclidean norm of all trainable parameters of :attr:`evaluated` together."""
        return norm([p.detach() for p in self.evaluated.parameters() if p.requires_grad]).item()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on: tensors and plain values."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "meter": dict(vars(self._meter)),
            **({} if self._average is None else {"average": self._average.state_dict()}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that :meth:`state_dict` gave."""
        self.epoch, self.step = state["epoch"], state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        # The score has been called correct.
        meter = {"score" if key == "correct" else key: x for key, x in state["meter"].items()}
        if isinstance(meter["num_diagnosed"], int):  # as it was, one number for all
            meter["num_diagnosed"] = dict.fromkeys(meter["diagnostics"], meter["num_diagnosed"])
        sums = tree_map_only(Tensor, lambda x: x.to(self.device, copy=True), meter)
        self._meter = _EpochMeter(**sums)

    def _batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Augmented, normalised inputs and labels of one mini-batch."""
        config, train, seed = self.cell.dataset.augment, self.data.train, self.cell.seed
        at = (self.epoch, self.step)
        draws = draw(config, len(indices), train.inputs.shape[-1], generator(seed, "augment", *at))
        inputs, labels = train.batch(indices)
        inputs = apply_policy(inputs, config, seed, *at, white=self.data.white)
        inputs = augment(inputs, draws, config, self.data.mean, self.data.std)
        inputs, labels = mix(inputs, labels, config, self.data.num_classes, seed, *at)
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return inputs, labels

    def _compute(self, inputs: Tensor, labels: Tensor) -> tuple[StepResult, Tensor]:
        """Everything of a step but the update, and the mini-batch's score before it, 0-d."""
        scores: dict[int, Tensor] = {}
        # Mixed labels are shares of the classes, which only losses take.
        mixed = labels.is_floating_point() and not self.data.train.labels.is_floating_point()
        classes = labels.argmax(dim=1) if mixed else labels
        size = self.cell.variant.m or len(labels)

        def score(outputs: Tensor, part: int) -> None:
            if part not in scores:  # of the first pass, at w
                there = classes[part * size : (part + 1) * size]
                scores[part] = self.task.batch_score(outputs.float(), there)

        batch = BatchedParts(
            self._network,
            lambda outputs, labels: self.task.loss(outputs.float(), labels),
            inputs,
            labels,
            size=size,
            at_once=self._parts_at_once,
            forward_in=self._forward_in,
            outputs_seen=score,
        )
        if len(batch) == 1:
            return self.optimizer.compute(batch[0]), scores[0]
        result = self.optimizer.compute(batch if self._parts_at_once > 1 else tuple(batch))
        return result, torch.stack(list(scores.values())).sum()

    @contextmanager
    def _forward_in(self) -> Iterator[None]:
        """Where a forward pass is taken."""
        if self._draws:
            # Both passes of a step, and a step that is taken again, draw the same.
            seed_global(derive_seed(self.cell.seed, "step", self.epoch, self.step))
        reduced = self.cell.recipe.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=reduced):
            yield

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


def initial_model(cell: CellConfig, data: SplitData) -> nn.Module:
    """The network as it starts, on the CPU; the same for every variant of one model and seed."""
    with torch.random.fork_rng(devices=[]):
        seed = derive_seed(cell.seed, "init")
        torch.manual_seed(seed)
        if not MODELS.find(cell.model.name, cell.model.factory).ours:
            seed_global(seed)
        return build_model(
            cell.model.name,
            factory=cell.model.factory,
            args=cell.model.args,
            **data.known_to_models,
        )


@dataclass(kw_only=True)
class _EpochMeter:
    """Sums over the steps of an epoch, kept on the device so that no step waits for it."""

    loss: Tensor
    score: Tensor
    num_steps: int = 0
    num_images: int = 0
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    #: Steps that had the number, which those that did not ascend may be without.
    num_diagnosed: dict[str, int] = field(default_factory=dict)

    @classmethod
    def on(cls, device: torch.device) -> Self:
        """All sums at zero."""
        return cls(
            loss=torch.zeros((), dtype=torch.float64, device=device),
            score=torch.zeros((), dtype=torch.float64, device=device),
        )

    def add(
        self,
        loss: Tensor,
        score: Tensor,
        num_images: int,
        *,
        diagnostics: Mapping[str, Tensor],
    ) -> None:
        """Take in one step, with its diagnostics if they were recorded."""
        self.loss += loss
        self.score += score
        self.num_steps += 1
        self.num_images += num_images
        for name, value in diagnostics.items():
            self.diagnostics[name] = self.diagnostics.get(name, 0) + value.double()
            self.num_diagnosed[name] = self.num_diagnosed.get(name, 0) + 1

    @property
    def mean_loss(self) -> float:
        """Over the steps; waits for the device."""
        return self.loss.item() / self.num_steps

    def summary(self, task: Task) -> dict[str, Any]:
        """Means over the steps; the one moment when the device is waited for."""
        means = {k: (x / self.num_diagnosed[k]).tolist() for k, x in self.diagnostics.items()}
        return {
            "train_loss": self.mean_loss,
            "train_accuracy": task.mean_score(self.score.item(), self.num_images),
            **means,
        }
