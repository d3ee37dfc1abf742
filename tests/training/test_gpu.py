"""What a CPU cannot show: training, resuming and measuring on a CUDA device."""

import copy
import itertools
import warnings
from pathlib import Path

import pytest
import torch
from helpers import compose_run, records, run, train_until

from samsweep.config import MEASURES, DataInfo
from samsweep.data.load import load_dataset
from samsweep.sharpness.measures import measure
from samsweep.training.device import prepare_device
from samsweep.training.measured_examples import measured_examples
from samsweep.training.probe import random_examples
from samsweep.training.trainer import Trainer

pytestmark = [
    pytest.mark.gpu,
    # Of the compiler's own imports, and of what it would do.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore:TensorFloat32:UserWarning"),
]

OPTIONS = {
    "sgd": ["opt=sgd"],
    "sam": ["opt=sam"],
    "sammagnitude": ["opt=sammagnitude", "granularity=global"],
    "samdirection": ["opt=samdirection"],
    "asam": ["opt=asam", "base=adamw", "lr=0.01"],
    "sgdhess": ["opt=sgdhess"],
}


@pytest.fixture(scope="module")
def data():
    device = prepare_device("cuda")
    loaded = load_dataset(compose_run().cell.dataset, data_dir=Path("data"), path=None)
    return loaded.to(device)


def make(data, opt, *overrides, cuda_graphs=True):
    run = compose_run(*OPTIONS[opt], *overrides)
    return Trainer(
        run.cell, data, diagnostics_every=2, compiled=run.compile, cuda_graphs=cuda_graphs
    )


def nothing():
    pass


def assert_equal(left, right):
    assert left.keys() == right.keys()
    assert [k for k in left if not torch.equal(left[k], right[k])] == []


@pytest.mark.parametrize("opt", OPTIONS)
@pytest.mark.parametrize(
    ("compiled", "cuda_graphs"), list(itertools.product(("false", "true"), (False, True)))
)
def test_a_resumed_training_is_bit_identical(data, opt, compiled, cuda_graphs):
    """Stopped in the middle of an epoch, when the steps of the rest are recorded anew."""

    def fresh():
        return make(data, opt, f"compile={compiled}", cuda_graphs=cuda_graphs)

    straight, stopped, resumed = fresh(), fresh(), fresh()
    rows = [straight.run_epoch(nothing) for _ in range(2)]
    train_until(stopped, 10)
    resumed.load_state_dict(stopped.state_dict())
    assert resumed.run_epoch(nothing) == rows[1]
    assert_equal(resumed.model.state_dict(), straight.model.state_dict())


def colour_images(device):
    """Random images of the size of CIFAR's."""
    info = DataInfo(
        num_outputs=10, input_shape=(3, 32, 32), num_train=512, num_val=512, num_test=512
    )
    return random_examples(info, 512).to(device)


@pytest.mark.parametrize("model", ["resnet20", "resnet18", "wrn28_10"])
@pytest.mark.parametrize("opt", ["sam", "samdirection"])
def test_recorded_steps_of_larger_networks_are_the_plain_steps(data, opt, model):
    images = colour_images(data.train.labels.device)
    plain, recorded = (
        make(images, opt, f"model={model}", "lr=0.01", cuda_graphs=on) for on in (False, True)
    )
    assert plain.run_epoch(nothing) == recorded.run_epoch(nothing)
    assert_equal(plain.model.state_dict(), recorded.model.state_dict())


@pytest.mark.parametrize("opt", OPTIONS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_recorded_steps_are_the_plain_steps_bit_for_bit(data, opt, precision):
    plain, recorded = (
        make(data, opt, f"precision={precision}", cuda_graphs=on) for on in (False, True)
    )
    assert plain.run_epoch(nothing) == recorded.run_epoch(nothing)
    assert plain.run_epoch(nothing) == recorded.run_epoch(nothing)
    assert_equal(plain.model.state_dict(), recorded.model.state_dict())
    assert (recorded._recorded is not None) == (opt != "sgdhess")


# Not of adamw, whose first step is the gradient's sign.
@pytest.mark.parametrize("opt", [opt for opt in OPTIONS if opt != "asam"])
def test_a_compiled_step_is_the_plain_step(data, opt):
    plain, compiled = (make(data, opt, f"compile={on}") for on in ("false", "true"))
    for trainer in (plain, compiled):
        trainer.model.train()
        trainer.take_step(torch.arange(128))
    for name, expected in plain.model.state_dict().items():
        torch.testing.assert_close(
            compiled.model.state_dict()[name], expected, rtol=5e-3, atol=1e-3
        )


@pytest.mark.parametrize("opt", OPTIONS)
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_no_step_waits_for_the_device(data, opt, cuda_graphs):
    trainer = make(data, opt, cuda_graphs=cuda_graphs)
    trainer.model.train()
    trainer.take_step(torch.arange(128))
    try:
        with warnings.catch_warnings(action="ignore"):  # of a prototype
            torch.cuda.set_sync_debug_mode("error")
        for indices in torch.arange(5 * 128).view(5, 128):
            trainer.take_step(indices)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_step_that_cannot_be_recorded_says_so(data, monkeypatch):
    trainer = make(data, "sam")
    trainer._network = lambda images: trainer.model(images) * images.mean().item()
    with pytest.raises(RuntimeError, match="cannot be recorded.*choose cuda_graphs=false"):
        trainer.take_step(torch.arange(128))


def test_draws_are_those_of_the_cpu(data):
    cell = compose_run().cell
    on_cpu = Trainer(cell, data.to("cpu"), diagnostics_every=1)._batch(torch.arange(64))[0]
    on_gpu = Trainer(cell, data, diagnostics_every=1)._batch(torch.arange(64))[0]
    torch.testing.assert_close(on_gpu.cpu(), on_cpu)


# --------------------------------------------------------------------------- measures

#: Small, but every part of every measure.
SETTINGS = [
    "sharpness=full",
    "sharpness.num_examples=256",
    "sharpness.trace.num_samples=3",
    "sharpness.spectral_density.num_vectors=2",
    "sharpness.spectral_density.num_steps=10",
    "sharpness.worst_case.num_steps=3",
    "sharpness.average_case.num_samples=3",
    "sharpness.landscape.num_points_1d=5",
    "sharpness.landscape.num_points_2d=3",
    "sharpness.empirical_sam.num_batches=2",
    "sharpness.empirical_sam.batch_size=64",
]


@pytest.fixture(scope="module")
def trained(data):
    trainer = make(data, "sgd", "epochs=5")
    for _ in range(5):
        trainer.run_epoch(nothing)
    return trainer


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_is_that_of_the_cpu(data, trained, name):
    asked = compose_run(*OPTIONS["sgd"], *SETTINGS)
    found = []
    for where in (data.to("cpu"), data):
        model = copy.deepcopy(trained.model).to(where.train.labels.device)
        examples = measured_examples(name, asked.sharpness, asked.cell, where)
        found.append(numbers(measure(name, asked.sharpness, model, *examples)))
    assert found[1] == pytest.approx(found[0], rel=2e-3, abs=1e-5)


def numbers(result):
    """The entries of a result that are of the model, flat."""
    beside = ("seconds", "num_hvps", "error_bounds", "error_estimates", "converged", "eigenvalues")
    flat = {}
    for key, value in result.items():
        if key not in beside and value is not None:
            values = torch.as_tensor(value, dtype=torch.float64).flatten().tolist()
            flat |= {(key, i): v for i, v in enumerate(values)}
    return flat


# --------------------------------------------------------------------------- the command


def test_cells_share_a_gpu(tmp_path):
    sweep = ["-m", "opt=sgd,sam", "seed=0,1", "epochs=2", "hydra.launcher.cells_per_gpu=2"]
    run(tmp_path, *sweep)
    cells = records(tmp_path)
    assert [cell["status"] for cell in cells] == ["complete"] * 4
    devices = {cell["attempts"][0]["provenance"]["device"] for cell in cells}
    assert {device.split()[0] for device in devices} == {"cuda"}
    assert all(m["result"]["converged"] for cell in cells for m in cell["measurements"].values())
