"""How long an epoch would take: a few real steps on random images, timed."""

from __future__ import annotations

import math
import statistics
import time

import torch

from samsweep.config import DataInfo, RunConfig
from samsweep.config.plugins import load_plugins
from samsweep.data.dataset_info import describe
from samsweep.data.splits import Split, SplitData
from samsweep.training.device import num_threads, prepare_device
from samsweep.training.trainer import Trainer

#: A step of so many seconds is long enough to extrapolate from.
_LONG_STEP_S = 1.0
#: Images of the first step that is timed.
_SMALLEST_BATCH = 2
#: Times that a short step is timed on a CPU.
_SHORT_STEPS = 3
#: Steps that are timed on a GPU; the first half warms it up.
_GPU_STEPS = 40


def seconds_per_epoch(runs: tuple[RunConfig, ...], threads: int) -> list[float]:
    """Seconds of one epoch of each run, from steps on so many threads, without its data set.

    Starts with few images and takes more until a step is long or the batch complete; part of a
    batch is extrapolated by the line through the last two steps. Evaluation is not counted, and
    nothing is written.
    """
    for run in runs:
        load_plugins(run.plugins)
    with num_threads(threads):
        return [_seconds_per_epoch(run) for run in runs]


def _seconds_per_epoch(run: RunConfig) -> float:
    info = describe(run.cell.dataset, run.data_path)
    batch_size = run.cell.recipe.batch_size
    device = prepare_device(run.device)
    data = random_examples(info, batch_size).to(device)
    trainer = Trainer(
        run.cell,
        data,
        diagnostics_every=run.diagnostics_every,
        cuda_graphs=run.cuda_graphs,
        parts_at_once=run.parts_together,
    )
    trainer.model.train()
    return _seconds_of_batch(trainer, batch_size) * (info.num_train // batch_size)


def _seconds_of_batch(trainer: Trainer, batch_size: int) -> float:
    """Seconds of a step on a whole batch: timed, or on the line through two smaller ones."""
    if trainer.device.type == "cuda":
        # Short, but recorded for batches of one size, and slow until the clocks are up.
        times = [_time_step(trainer, batch_size) for _ in range(_GPU_STEPS)]
        return statistics.median(times[_GPU_STEPS // 2 :])
    # Of m-SAM a whole number of parts.
    part = trainer.cell.variant.m or 1
    size = min(part * math.ceil(_SMALLEST_BATCH / part), batch_size)
    seconds = _time_step(trainer, size)
    if seconds < _LONG_STEP_S:
        # The first step pays for what is set up once.
        seconds = _time_step(trainer, size)
    while size < batch_size:
        smaller, smaller_s = size, seconds
        # In leaps that do not overshoot a long step by much.
        leap = max(2.0, min(8.0, _LONG_STEP_S / seconds))
        size = min(part * round(size * leap / part), batch_size)
        seconds = _time_step(trainer, size)
        if seconds > _LONG_STEP_S:
            break
    else:
        return seconds
    # What a step costs without any images, the update of the weights above all, counts once.
    per_image = max(0.0, (seconds - smaller_s) / (size - smaller))
    return seconds + per_image * (batch_size - size)


def _time_step(trainer: Trainer, size: int) -> float:
    """Seconds of a step: of a short one the least of three, since others may share the cores."""
    times = [_seconds_of_step(trainer, size)]
    while len(times) < _SHORT_STEPS and sum(times) < _LONG_STEP_S and trainer.device.type == "cpu":
        times.append(_seconds_of_step(trainer, size))
    return min(times)


def _seconds_of_step(trainer: Trainer, size: int) -> float:
    trainer.step = 0
    started = time.perf_counter()
    trainer.take_step(torch.arange(size))
    if trainer.device.type == "cuda":
        torch.cuda.synchronize(trainer.device)
    return time.perf_counter() - started


def random_examples(info: DataInfo, number: int) -> SplitData:
    """So many examples of a data set's shapes and types, the same in every split."""
    shape, draws = (number, *info.input_shape), torch.Generator().manual_seed(0)
    if info.input_dtype == "uint8":
        inputs = torch.randint(256, shape, dtype=torch.uint8, generator=draws)
        moments = torch.full((info.input_shape[0],), 128.0)
    else:
        moments = None
        inputs = torch.randn(shape, generator=draws)
        if info.num_tokens is not None:
            inputs = torch.randint(info.num_tokens, shape, generator=draws)
    if info.is_classification:
        labels = torch.randint(info.num_outputs, (number,), generator=draws)
    else:
        labels = torch.randn((number, *info.label_shape), generator=draws)
    split = Split(inputs=inputs, labels=labels)
    return SplitData(
        train=split,
        val=split,
        test=split,
        mean=moments,
        std=moments,
        num_classes=info.num_outputs,
        num_tokens=info.num_tokens,
    )
