"""What training costs beside the two gradients, part by part: the rows of ``speed.py``."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import ordinary
import pytorch_optimizer
import torch
from harness import compose_run, in_turn, medians, memory_mib, seconds_of, start_of_peak
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from samsweep.data.load import load_dataset
from samsweep.data.splits import Split, SplitData
from samsweep.models import build_model
from samsweep.optim import SAM
from samsweep.training.memory import keep_freed_memory
from samsweep.training.trainer import Trainer

RHO, LR, BATCH_SIZE = 0.1, 0.1, 128
SGD = {"lr": LR, "momentum": ordinary.MOMENTUM, "weight_decay": ordinary.WEIGHT_DECAY}


def overrides(model: str, data: Path, *more: str) -> list[str]:
    return [
        f"model={model}",
        "dataset=image_folder",
        f"dataset.path={data}",
        "dataset.augment.crop_padding=4",
        "dataset.augment.flip=true",
        "dataset.augment.cutout=8",
        "dataset.augment.cutout_prob=0.5",
        f"batch_size={BATCH_SIZE}",
        f"lr={LR}",
        f"rho={RHO}",
        f"weight_decay={ordinary.WEIGHT_DECAY}",
        *more,
    ]


def load(data: Path, num_images: int | None = None) -> SplitData:
    """The images, of which fewer may be for training."""
    run = compose_run(overrides("resnet20", data))
    loaded = load_dataset(run.cell.dataset, data_dir=run.data_dir, path=run.data_path)
    train = loaded.train
    part = Split(inputs=train.inputs[:num_images], labels=train.labels[:num_images])
    return replace(loaded, train=part)


def make_trainer(model: str, data: Path, images: SplitData, *more: str) -> Trainer:
    run = compose_run(overrides(model, data, *more))
    return Trainer(
        run.cell,
        images,
        diagnostics_every=run.diagnostics_every,
        compiled=run.compile,
        cuda_graphs=run.cuda_graphs,
        parts_at_once=run.parts_together,
    )


# --------------------------------------------------------------------------- epochs


def epochs(model: str, data: Path, *, num_images: int, rounds: int) -> dict[str, Any]:
    """An epoch of SAM beside the ordinary loop's, and beside compiled and bfloat16 ones."""
    images = load(data, num_images)
    pictures = ordinary.Pictures(images, crop_padding=4, cutout=8)
    network = ordinary.network(model, images)
    sam = ordinary.PerTensorSAM(network.parameters(), rho=RHO, lr=LR)
    ours = {
        "samsweep": make_trainer(model, data, images, "opt=sam"),
        "samsweep, compiled": make_trainer(model, data, images, "opt=sam", "compile=true"),
        "samsweep, bfloat16": make_trainer(model, data, images, "opt=sam", "precision=bfloat16"),
    }
    works: dict[str, Callable[[], object]] = {
        "ordinary": lambda: ordinary.train_epoch(network, sam, pictures, BATCH_SIZE),
        **{name: lambda t=trainer: t.run_epoch(_nothing) for name, trainer in ours.items()},
    }
    with TemporaryDirectory() as cold, mock.patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=cold):
        first = {name: seconds_of(work) for name, work in works.items()}
    seconds = in_turn(works, rounds, warm_up=False)
    typical = medians(seconds)
    return {
        "model": model,
        "images": len(images.train),
        "median_seconds": typical,
        "seconds": seconds,
        "compile_seconds": first["samsweep, compiled"] - typical["samsweep, compiled"],
        "ratio": _ratio(seconds["ordinary"], seconds["samsweep"]),
        "more_ratios": {
            name: _ratio(seconds["ordinary"], ours)
            for name, ours in seconds.items()
            if name not in ("ordinary", "samsweep")
        },
    }


def _nothing() -> None:
    """After a step."""


# --------------------------------------------------------------------------- input


def pipeline(data: Path, *, rounds: int) -> dict[str, Any]:
    """Augmented, normalised images per second; the DataLoader's epoch starts its workers."""
    images = load(data)
    pictures = ordinary.Pictures(images, crop_padding=4, cutout=8)
    trainer = make_trainer("resnet20", data, images, "opt=sam")
    whole = len(images.train) // BATCH_SIZE * BATCH_SIZE  # batches, as the loader gives
    order = torch.randperm(len(images.train))[:whole]

    def ours() -> None:
        for indices in torch.split(order, BATCH_SIZE):
            trainer._batch(indices)

    def theirs() -> None:
        for _ in ordinary.batches(pictures, BATCH_SIZE):
            pass

    typical = medians(in_turn({"ordinary": theirs, "samsweep": ours}, rounds))
    return {
        "images_per_second": {name: len(order) / s for name, s in typical.items()},
        "ratio": typical["ordinary"] / typical["samsweep"],
    }


# --------------------------------------------------------------------------- steps

HYBRIDS = {
    f"{name} {granularity}": [f"opt={name}", f"granularity={granularity}"]
    for name in ("samdirection", "sammagnitude")
    for granularity in ("element", "tensor", "global")
}
VARIANTS = {"sgd": ["opt=sgd"], "sam": ["opt=sam"], **HYBRIDS, "sgdhess": ["opt=sgdhess"]}


def steps(model: str, data: Path, *, rounds: int) -> dict[str, Any]:
    """A step of each optimizer beside SGD's and SAM's.

    Only the hybrids look at their gradients, and in every step, which is dearer than the default.
    """
    images = load(data, BATCH_SIZE)
    trainers = {
        name: make_trainer(model, data, images, *chosen) for name, chosen in VARIANTS.items()
    }
    indices = torch.arange(BATCH_SIZE)

    def step(name: str, trainer: Trainer) -> None:
        trainer.step = 0 if name in HYBRIDS else 1  # the first of an epoch is looked at
        trainer.take_step(indices)

    for trainer in trainers.values():
        trainer.model.train()
    seconds = in_turn({n: partial(step, n, t) for n, t in trainers.items()}, rounds)
    ratios = {
        "sam of two sgd": _ratio(seconds["sam"], seconds["sgd"]) / 2,
        "sgdhess of sgd": _ratio(seconds["sgdhess"], seconds["sgd"]),
        **{f"{name} of sam": _ratio(seconds[name], seconds["sam"]) for name in HYBRIDS},
    }
    return {"model": model, "median_seconds": medians(seconds), "ratios": ratios}


#: The SAM family, by what is changed of SAM.
FAMILY = {
    **{
        name: [f"opt={name}"]
        for name in (
            "usam unified_sam sam_on random_sam last_sam msam fsam vasso looksam sssam aesam gsam "
            "wsam saner"
        ).split()
    },
    "every fifth step, no reuse": ["opt=sam", "opt.when=every"],
    "per tensor": ["opt=sam", "opt.ascent=per_tensor"],
    "two ascent steps": ["opt=sam", "opt.ascent_steps=2"],
    "parts of 64": ["opt=sam", "opt.m=64"],
    "parts of 16": ["opt=sam", "opt.m=16"],
    "parts of 16, in one pass": ["opt=sam", "opt.m=16", f"parts_at_once={BATCH_SIZE // 16}"],
}


def family(model: str, data: Path, *, num_steps: int, rounds: int) -> dict[str, Any]:
    """Steps of the SAM family beside SAM's, and how many of them ascend.

    Of a rule that looks at the gradient, what it costs depends on the gradients: here those of the
    first steps on one mini-batch.
    """
    images = load(data, BATCH_SIZE)
    chosen = {"sam": ["opt=sam"], **FAMILY}
    trainers = {name: make_trainer(model, data, images, *keys) for name, keys in chosen.items()}
    indices = torch.arange(BATCH_SIZE)

    def take(trainer: Trainer) -> None:
        for _ in range(num_steps):
            trainer.step = 1  # the first of an epoch is looked at
            trainer.take_step(indices)

    for trainer in trainers.values():
        trainer.model.train()
    seconds = in_turn({n: partial(take, t) for n, t in trainers.items()}, rounds)
    return {
        "model": model,
        "median_seconds": {n: s / num_steps for n, s in medians(seconds).items()},
        "ratios": {n: _ratio(seconds[n], seconds["sam"]) for n in FAMILY},
        "passes": {n: trainers[n].cell.variant.passes for n in FAMILY},
    }


def _ratio(a: list[float], b: list[float]) -> float:
    """Of what was measured side by side, round by round."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


# --------------------------------------------------------------------------- the optimizer alone


class _Given(torch.autograd.Function):
    """A loss of 0 whose gradient is known beforehand and costs nothing."""

    @staticmethod
    def forward(ctx: Any, grads: list[Tensor], *params: Tensor) -> Tensor:
        ctx.grads = grads
        return params[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.grads


def optimizer_part(*, rounds: int) -> dict[str, Any]:
    """Everything of a step but its two passes, on WRN-28-10's parameters."""
    ours, theirs = _wrn_parameters(), _wrn_parameters()
    grads = [torch.randn_like(p) for p in ours]
    optimizer = SAM(torch.optim.SGD(ours, **SGD), rho=RHO)
    reference = pytorch_optimizer.SAM(theirs, torch.optim.SGD, rho=RHO, **SGD)

    def give() -> None:
        for param, grad in zip(theirs, grads, strict=True):
            param.grad = grad

    def their_step() -> None:
        give()
        reference.first_step(zero_grad=True)
        give()
        reference.second_step(zero_grad=True)

    works = {
        "pytorch_optimizer": their_step,
        "samsweep": lambda: optimizer.step(lambda: _Given.apply(grads, *ours)),
    }
    typical = medians(in_turn(works, rounds))
    size = sum(p.numel() for p in ours) * 4
    flat = torch.zeros(size // 4)
    other = torch.zeros_like(flat)
    copy_s = statistics.median(in_turn({"copy": lambda: other.copy_(flat)}, rounds)["copy"])
    return {
        "median_seconds": typical,
        "ratio": typical["pytorch_optimizer"] / typical["samsweep"],
        "copy_seconds": copy_s,
        "copies_bytes_per_second": 2 * size / copy_s,
        # SAM reads or writes all parameters 6 times: norm, epsilon, w + epsilon. SGD does so 11
        # times: weight decay, momentum in two operations, the update. A copy does so twice.
        "share_of_bandwidth": (6 + 11) / 2 * copy_s / typical["samsweep"],
    }


def _wrn_parameters() -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    model = build_model("wrn28_10", in_channels=3, num_classes=100)
    return list(model.to(memory_format=torch.channels_last).parameters())


def memory() -> dict[str, float]:
    """Peak of a SAM step of WRN-28-10 beside its activations, in copies of its parameters.

    Two images of 16×16: on smaller ones convolutions become dense matrices. ``live`` is what is in
    use at a time, for which freed memory is given back at once; cells keep it for the next step.
    """
    small = str(2**16)
    return {
        "live": _peak_apart({"MALLOC_MMAP_THRESHOLD_": small, "MALLOC_TRIM_THRESHOLD_": small}),
        "as cells run": _peak_apart({}),
    }


def _peak_apart(environment: dict[str, str]) -> float:
    """The peak of a process of its own, for which the allocator is told at its start."""
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    script += f"import speed_training; print(speed_training.peak_copies({not environment}))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, env=os.environ | environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return float(done.stdout.split()[-1])


def peak_copies(keeps: bool) -> float:
    """Peak of this process during SAM steps, in copies of all parameters (Linux only).

    Args:
        keeps: Whether freed memory is kept, as cells do.
    """
    if keeps:
        keep_freed_memory()
    torch.manual_seed(0)
    model = build_model("wrn28_10", in_channels=3, num_classes=100)
    model.to(memory_format=torch.channels_last).train()
    images = torch.randn(2, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    labels = torch.tensor([0, 1])
    optimizer = SAM(torch.optim.SGD(model.parameters(), **SGD), rho=RHO)
    size = sum(p.numel() for p in model.parameters()) * 4 / 2**20
    with torch.no_grad():
        model(images)  # what a pass allocates for itself

    def loss() -> Tensor:
        return torch.nn.functional.cross_entropy(model(images), labels)

    activations = saved_mib(loss, model)
    before = start_of_peak()
    for _ in range(3):
        optimizer.step(loss)
    return 1 + (memory_mib("VmHWM") - before - activations) / size


def saved_mib(loss: Callable[[], Tensor], model: torch.nn.Module) -> float:
    """What a forward pass keeps for its backward pass, weights aside."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        kept = loss()
    del kept
    return sum(sizes.values()) / 2**20


# --------------------------------------------------------------------------- arithmetic


def arithmetic(model: str, data: Path, *, rounds: int) -> dict[str, Any]:
    """Share of the processor's matrix product rate that an SGD step reaches."""
    images = load(data, BATCH_SIZE)
    trainer = make_trainer(model, data, images, "opt=sgd")
    trainer.model.train()
    indices = torch.arange(BATCH_SIZE)

    def step() -> None:
        trainer.step = 0
        trainer.take_step(indices)

    with FlopCounterMode(display=False) as counter:
        step()
    side = 2048
    a, b = torch.randn(side, side), torch.randn(side, side)
    works = {"product": lambda: a @ b, "step": step}
    typical = medians(in_turn(works, rounds))
    rates = {
        "product": 2 * side**3 / typical["product"],
        "step": counter.get_total_flops() / typical["step"],
    }
    return {
        "model": model,
        "flops_per_second": rates,
        "share": rates["step"] / rates["product"],
        "profile": list(_profile(step)),
    }


def _profile(step: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """Where the step's time goes, by kind of operation."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step()
    events = sorted(profile.key_averages(), key=lambda e: e.self_cpu_time_total, reverse=True)
    total = sum(e.self_cpu_time_total for e in events)
    for event in events[:10]:
        yield {"operation": event.key, "share": event.self_cpu_time_total / total}
