"""What a CPU cannot show: training and resuming on a CUDA device."""

from pathlib import Path

import pytest
import torch
from helpers import compose_run

from samsweep.data.load import load_dataset
from samsweep.training.device import make_deterministic, resolve_device
from samsweep.training.trainer import Trainer

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("opt", ["sgd", "sam", "sammagnitude", "sgdhess"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_resumed_training_is_bit_identical(opt, compiled):
    cell = compose_run(f"opt={opt}").cell
    device = resolve_device("cuda")
    make_deterministic(device)
    data = load_dataset(cell.dataset, data_dir=Path("data"), path=None).to(device)

    def make():
        return Trainer(cell, data, diagnostics_every=2, compiled=compiled)

    straight, stopped, resumed = make(), make(), make()
    for _ in range(2):
        straight.run_epoch(lambda: None)
    stopped.run_epoch(lambda: None)
    resumed.load_state_dict(stopped.state_dict())
    resumed.run_epoch(lambda: None)
    for ours, theirs in zip(
        resumed.model.state_dict().values(), straight.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_draws_are_those_of_the_cpu():
    cell = compose_run().cell
    data = load_dataset(cell.dataset, data_dir=Path("data"), path=None)
    on_cpu = Trainer(cell, data, diagnostics_every=1)._batch(torch.arange(64))[0]
    on_gpu = Trainer(cell, data.to("cuda"), diagnostics_every=1)._batch(torch.arange(64))[0]
    torch.testing.assert_close(on_gpu.cpu(), on_cpu)
