"""Pairing by seed, resuming, and what an epoch reports."""

import shutil
import threading
import time
from pathlib import Path

import pytest
import torch
from helpers import compose_run, train_until
from torch import nn
from torch._dynamo.utils import counters

from samsweep.config import CheckpointConfig, ConfigError
from samsweep.data.load import load_dataset
from samsweep.records.lock import LockLost
from samsweep.records.store import CellFolder
from samsweep.training.checkpoint import Checkpoints
from samsweep.training.device import check_compiler
from samsweep.training.evaluate import evaluate
from samsweep.training.trainer import Trainer, initial_model


@pytest.fixture(scope="module")
def data():
    return load_dataset(compose_run().cell.dataset, data_dir=Path("data"), path=None)


compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")


def make(data, *overrides, every=2):
    run = compose_run("epochs=3", *overrides)
    return Trainer(
        run.cell,
        data,
        diagnostics_every=every,
        compiled=run.compile,
        parts_at_once=run.parts_together,
    )


@pytest.mark.parametrize("more", [(), ("dataset.augment.mixup=0.5",), ("opt.ascent_steps=2",)])
def test_parts_in_one_pass_train_what_parts_one_after_the_other_do(data, more):
    run = compose_run("opt=sam", "opt.m=32", *more)
    one, together = (Trainer(run.cell, data, diagnostics_every=1, parts_at_once=n) for n in (1, 4))
    before = {k: v.clone() for k, v in one.model.state_dict().items()}
    take_steps(one, together)
    for name, expected in one.model.state_dict().items():
        assert not torch.equal(expected, before[name])
        torch.testing.assert_close(
            together.model.state_dict()[name], expected, rtol=1e-4, atol=1e-6
        )
    assert together._meter.score == one._meter.score
    torch.testing.assert_close(together._meter.loss, one._meter.loss)


def nothing():
    pass


def take_steps(*trainers):
    for trainer in trainers:
        trainer.model.train()
        trainer.take_step(torch.arange(128))


def every_step(folder, **keys):
    """Checkpoints of a folder, due at every step."""
    config = CheckpointConfig(every_steps=1, every_seconds=None, keep=False)
    return Checkpoints(CellFolder(folder), config, **keys)


def state(step):
    """The least that is a state."""
    return {"epoch": 0, "step": step, "model": {}, "optimizer": {}}


def latest(checkpoints):
    return next((found for _, found in checkpoints.read()), None)


def assert_equal(left, right):
    assert left.keys() == right.keys()
    assert all(torch.equal(left[k], right[k]) for k in left)


def test_cells_of_one_seed_start_alike_and_see_the_same_batches(data):
    first, *others = (make(data, opt) for opt in ("opt=sgd", "opt=sam", "opt=samdirection"))
    batch = first._batch(torch.arange(128))
    for other in others:
        assert_equal(other.model.state_dict(), first.model.state_dict())
        assert all(map(torch.equal, other._batch(torch.arange(128)), batch))
    elsewhere = make(data, "seed=1")
    assert not torch.equal(elsewhere.model.conv1.weight, first.model.conv1.weight)
    assert not torch.equal(elsewhere._batch(torch.arange(128))[0], batch[0])


def test_initialisation_leaves_the_global_generator_alone(data):
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    initial_model(compose_run().cell, data)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    "overrides",
    [
        ["opt=sgd"],
        ["opt=sam"],
        ["opt=sammagnitude", "granularity=global"],
        ["opt=sgdhess"],
        ["opt=asam", "base=adamw", "lr=0.01"],
        ["opt=vasso"],
        ["opt=m_sam", "parts_at_once=2"],
        ["opt=sam", "base=schedulefreesgd", "base_args.momentum=0.9", "lr=0.5"],
        pytest.param(["opt=fsam"], marks=pytest.mark.slow),
        pytest.param(["opt=msam"], marks=pytest.mark.slow),
        pytest.param(["opt=last_sam"], marks=pytest.mark.slow),
        pytest.param(["opt=random_sam", "opt.m=32"], marks=pytest.mark.slow),
        pytest.param(["opt=looksam"], marks=pytest.mark.slow),
        pytest.param(["opt=aesam"], marks=pytest.mark.slow),
        pytest.param(["opt=gsam"], marks=pytest.mark.slow),
        pytest.param(["opt=sam", "precision=bfloat16"], marks=pytest.mark.slow),
        pytest.param(["opt=sam", "compile=true"], marks=[compiler, pytest.mark.slow]),
    ],
    ids=lambda overrides: "-".join(overrides),
)
def test_a_resumed_training_is_bit_identical(data, overrides, tmp_path):
    """Stopped in the middle of an epoch, through a file, as in life."""
    straight = make(data, *overrides)
    rows = [straight.run_epoch(nothing) for _ in range(2)]

    stopped = make(data, *overrides)
    train_until(stopped, 10)
    checkpoints = every_step(tmp_path)
    checkpoints.write(stopped.state_dict())

    resumed = make(data, *overrides)
    resumed.load_state_dict(latest(checkpoints))
    assert (resumed.epoch, resumed.step) == (1, 3)
    row = resumed.run_epoch(nothing)
    assert_equal(resumed.model.state_dict(), straight.model.state_dict())
    assert row == rows[1]


def test_an_epoch_reports_what_happened(data):
    trainer = make(data, "opt=samdirection", "granularity=global")
    row = trainer.run_epoch(nothing)
    assert trainer.epoch == 1
    assert trainer.step == 0
    assert trainer.steps_per_epoch == 898 // 128
    assert row["epoch"] == 1
    assert 1.5 < row["train_loss"] < 4
    assert 0 < row["train_accuracy"] < 60
    for share in ("amplified_share", "sign_agreement"):
        assert 0 < row[share] < 1
    assert set(row["layer_cosines"]) == {
        name for name, p in trainer.model.named_parameters() if p.ndim > 1
    }
    assert row["update_cosine_perturbed"] == pytest.approx(1)
    assert row["update_cosine_clean"] == pytest.approx(row["cosine"])
    assert row["weight_norm"] == pytest.approx(
        torch.cat([p.flatten() for p in trainer.model.parameters()]).norm().item(), rel=1e-5
    )


def test_bases_that_score_an_average_are_told_when(data):
    """Schedule-free: trained at y, scored at x, with y = (1 - momentum) z + momentum x."""
    trainer = make(data, "opt=sgd", "base=schedulefreesgd", "base_args.momentum=0.9", "lr=0.5")
    trainer.run_epoch(nothing)
    scored = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.optimizer.base.train()
    for x, y in zip(scored, trainer.model.parameters(), strict=True):
        z = trainer.optimizer.base.state[y]["z"]
        torch.testing.assert_close(y, 0.1 * z + 0.9 * x, rtol=1e-4, atol=1e-6)
    assert not torch.equal(x, y)


def test_diagnostics_do_not_change_the_training(data):
    often, rarely = make(data, every=1), make(data, every=100)
    often.run_epoch(nothing)
    rarely.run_epoch(nothing)
    assert_equal(often.model.state_dict(), rarely.model.state_dict())


def test_training_learns(data):
    """Two in five labels are noise, so that the loss cannot come near 0."""
    trainer = make(data, "opt=sgd", "epochs=12")
    rows = [trainer.run_epoch(nothing) for _ in range(12)]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"] - 0.5


def test_a_checkpoint_is_of_the_moment_it_was_asked_for(data, tmp_path):
    trainer = make(data, "opt=sam")
    trainer.take_step(torch.arange(128))
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    checkpoints = every_step(tmp_path)
    writing, written = threading.Event(), checkpoints._write

    def write_late(state):
        writing.wait(timeout=60)
        written(state)

    checkpoints._write = write_late
    checkpoints.write(trainer.state_dict())
    trainer.take_step(torch.arange(128, 256))
    writing.set()
    found = latest(checkpoints)
    assert_equal(found["model"], before)
    assert found["step"] == 1
    assert not torch.equal(trainer.model.conv1.weight, before["conv1.weight"])


def test_a_checkpoint_is_written_although_the_one_before_could_not_be(tmp_path):
    checkpoints = every_step(tmp_path / "gone")
    checkpoints.write(state(1))
    while not checkpoints._writing.done():
        time.sleep(0.01)
    (tmp_path / "gone").mkdir()
    with pytest.raises((OSError, RuntimeError), match="gone"):
        checkpoints.write(state(2))
    assert latest(checkpoints) == state(2)


def test_the_last_checkpoint_that_cannot_be_written_is_logged(tmp_path, caplog):
    """What ends a training is not hidden by it."""
    checkpoints = every_step(tmp_path / "gone")
    checkpoints.write(state(1))
    checkpoints.finish()
    assert "gone: the last checkpoint was not written: " in caplog.text


def test_a_checkpoint_takes_its_name_only_while_the_folder_is_held(tmp_path):
    def lost():
        raise LockLost("taken over")

    checkpoints = every_step(tmp_path, confirm=lost)
    checkpoints.write(state(1))
    with pytest.raises(LockLost, match="taken over"):
        checkpoints.write(state(2))
    checkpoints.finish()
    assert not list(tmp_path.iterdir())


@compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["opt=sam"],
        ["opt=asam"],
        ["opt=m_sam"],
        ["opt=vasso"],
        ["opt=looksam"],
        ["opt=msam"],
        ["opt=multi_step_sam"],
        ["opt=gsam"],
        ["opt=sam_on", "groups=[{params:biases,lr:0.05}]"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_a_compiled_step_is_the_plain_step(data, overrides):
    """Without ReLU, across whose kinks rounding takes some steps on some processors."""
    plain, compiled = (make(data, *overrides, f"compile={c}") for c in ("false", "true"))
    for trainer in (plain, compiled):
        for block in trainer.model.modules():
            if hasattr(block, "relu"):
                block.relu = nn.Softplus()
    take_steps(plain, compiled)
    for (name, value), expected in zip(
        compiled.model.state_dict().items(), plain.model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-4, msg=name)


@compiler
@pytest.mark.slow
def test_every_trainer_of_a_process_is_compiled(data):
    """torch makes no more than eight graphs of one piece of code, and then goes on without."""
    trainers = [make(data, "opt=sgd", f"seed={seed}", "compile=true") for seed in range(10)]
    counters.clear()
    for number, trainer in enumerate(trainers, start=1):
        make(data, "opt=sgd", "compile=true")  # as the next cell of a process does
        take_steps(trainer)
        assert counters["stats"]["unique_graphs"] == number


@compiler
@pytest.mark.slow
def test_compiled_steps_are_one_graph_and_the_same_steps(data):
    """Whatever the pass and the epoch, and with evaluations between them."""
    torch._dynamo.reset()
    counters.clear()
    plain, compiled = make(data, "opt=sam"), make(data, "opt=sam", "compile=true")
    # Rounding grows from step to step.
    for tolerance in (1e-3, 1e-2):
        rows = [trainer.run_epoch(nothing) for trainer in (plain, compiled)]
        for trainer in (plain, compiled):
            evaluate(trainer.model, data, data.val, trainer.task)
        assert rows[1]["train_loss"] == pytest.approx(rows[0]["train_loss"], rel=tolerance)
    assert counters["stats"]["unique_graphs"] == 1
    for name in ("bn1.running_mean", "bn1.num_batches_tracked"):
        left, right = (t.model.state_dict()[name] for t in (plain, compiled))
        torch.testing.assert_close(left, right, rtol=1e-2, atol=5e-3)


def test_what_cannot_be_compiled_trains_without(data):
    plain, compiled = (make(data, "opt=sgdhess", f"compile={c}") for c in ("false", "true"))
    take_steps(plain, compiled)
    assert_equal(plain.model.state_dict(), compiled.model.state_dict())


def test_a_missing_compiler_is_told_before_any_work(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="no C\\+\\+ compiler no-such-compiler.*compile=false"):
        check_compiler()


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, caplog):
    folder, checkpoints = CellFolder(tmp_path), every_step(tmp_path)
    checkpoints.write(state(1))
    checkpoints.write(state(2))
    assert latest(checkpoints) == state(2)
    folder.checkpoint_file.write_bytes(folder.checkpoint_file.read_bytes()[:100])
    assert latest(checkpoints) == state(1)
    assert "is passed over and kept as checkpoint.pt.unusable: no checkpoint" in caplog.text
    folder.previous_checkpoint_file.unlink()
    assert latest(checkpoints) is None


def test_a_checkpoint_never_executes_what_it_reads(tmp_path, caplog):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    folder = CellFolder(tmp_path)
    torch.save({"step": Bomb()}, folder.checkpoint_file)
    assert latest(every_step(tmp_path)) is None
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("every_steps", "every_seconds", "due"),
    [(3, None, [False, False, True]), (None, 1e-9, [True] * 3), (None, None, [False] * 3)],
)
def test_when_a_checkpoint_is_due(tmp_path, every_steps, every_seconds, due):
    config = CheckpointConfig(every_steps=every_steps, every_seconds=every_seconds, keep=False)
    checkpoints = Checkpoints(CellFolder(tmp_path), config)
    assert [checkpoints.due() for _ in range(3)] == due


class Repeated:
    """What a recording is without a GPU: its function, called again; earlier results are lost."""

    def __init__(self, function, *inputs, device, keep=(), after=None):
        kept = [(tensor, tensor.clone()) for tensor in keep]
        self._function, self.result = function, function(*inputs)
        for tensor, before in kept:
            tensor.copy_(before)

    def replay(self, *inputs):
        earlier, self.result = self.result, self._function(*inputs)
        if isinstance(earlier, tuple):
            step, num_correct = earlier
            lost = [step.loss, *step.grad_clean, *step.update, *(step.grad_perturbed or [])]
            for tensor in (num_correct, *lost):
                tensor.zero_()
        return self.result


@pytest.mark.parametrize("opt", ["opt=sgd", "opt=sam", "opt=sammagnitude"])
def test_steps_from_recordings_are_the_plain_steps(data, opt, monkeypatch):
    monkeypatch.setattr("samsweep.training.trainer.Recording", Repeated)
    plain, recorded = make(data, opt), make(data, opt)
    recorded._records = True
    assert recorded.run_epoch(nothing) == plain.run_epoch(nothing)
    assert_equal(recorded.model.state_dict(), plain.model.state_dict())


def test_nothing_is_recorded_on_a_cpu(data):
    trainer = Trainer(compose_run().cell, data, diagnostics_every=2, cuda_graphs=True)
    take_steps(trainer)
    assert trainer._recorded is None


@pytest.mark.parametrize("opt", ["opt=sgd", "opt=sam", "opt=sgdhess"])
def test_what_is_computed_moves_nothing_but_statistics(data, opt):
    trainer = make(data, opt)
    trainer.model.train()
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer._compute(*trainer._batch(torch.arange(128)))
    after = trainer.model.parameters()
    assert all(torch.equal(p, b) for p, b in zip(after, before, strict=True))


@pytest.mark.parametrize(
    ("opt", "cosine"), [("opt=sgd", 0.98), ("opt=sam", 0.9), ("opt=samdirection", 0.9)]
)
def test_a_step_in_bfloat16_is_nearly_the_step_in_float32(data, opt, cosine):
    """Less so at w + epsilon: weights are rounded there as well, and epsilon is small."""
    found = []
    for precision in ("float32", "bfloat16"):
        trainer = make(data, opt, f"precision={precision}")
        trainer.model.train()
        result, _ = trainer._compute(*trainer._batch(torch.arange(128)))
        found.append((result.loss, torch.cat([x.flatten() for x in result.update])))
    (loss, exact), (rounded_loss, rounded) = found
    assert rounded_loss.dtype == rounded.dtype == torch.float32
    torch.testing.assert_close(rounded_loss, loss, rtol=1e-2, atol=0)
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=0) > cosine
