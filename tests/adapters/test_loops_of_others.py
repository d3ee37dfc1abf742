"""The real loops of other libraries take the steps that a loop of one's own takes."""

import copy
import functools
import re
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from samsweep.optim import SAM, frozen_statistics

# Each library takes seconds to import, and warns of its own affairs.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

PAGES = Path(__file__).parents[2] / "docs/loops"
QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


@pytest.fixture
def examples():
    draws = torch.Generator().manual_seed(1)
    return TensorDataset(torch.randn(48, 4, generator=draws), torch.arange(48) % 3)


def sam(model):
    values = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    return SAM(
        model.parameters(),
        base=torch.optim.SGD,
        rho=0.1,
        second_pass=frozen_statistics(model),
        **values,
    )


def by_hand(model, examples, *, clip=None, parts=1):
    """The weights and statistics after an epoch of a loop of one's own."""
    model = copy.deepcopy(model)
    optimizer = sam(model)
    for inputs, labels in DataLoader(examples, batch_size=12):

        def closure(inputs=inputs, labels=labels):
            total = 0.0
            for x, y in zip(inputs.chunk(parts), labels.chunk(parts), strict=True):
                loss = cross_entropy(model(x), y) / parts
                loss.backward()
                total += loss.detach()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            return total

        optimizer.step(closure)
    return state(model)


def state(model):
    return torch.cat([x.flatten().double() for x in model.state_dict().values()])


@pytest.mark.parametrize("page", sorted(file.stem for file in PAGES.glob("*.md")))
def test_the_code_of_the_page_runs(page, tmp_path, monkeypatch):
    pytest.importorskip(page)
    monkeypatch.chdir(tmp_path)
    text = (PAGES / f"{page}.md").read_text()
    names = {"__name__": "page"}
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(code, f"{page}.md", "exec"), names)
    optimizer = names["optimizer"] if "optimizer" in names else names["trainer"].optimizers[0]
    inner = getattr(optimizer, "optimizer", optimizer)
    assert isinstance(inner, SAM) and inner.num_steps > 1


# ------------------------------------------------------------------ Lightning


@pytest.mark.parametrize("manual", [True, False])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_lightning(model, examples, manual, clip):
    lightning = pytest.importorskip("lightning")
    if manual and clip is not None:
        pytest.skip("manual optimization clips by hand")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = model
            self.automatic_optimization = not manual

        def training_step(self, batch, index):
            inputs, labels = batch
            if manual:
                self.optimizers().step(lambda: cross_entropy(self.model(inputs), labels))
                return None
            return cross_entropy(self.model(inputs), labels)

        def configure_optimizers(self):
            return sam(self.model)

    expected = by_hand(model, examples, clip=clip)
    trainer = lightning.Trainer(max_epochs=1, gradient_clip_val=clip, **QUIET)
    trainer.fit(Module(), DataLoader(examples, batch_size=12))
    assert trainer.global_step == 4
    torch.testing.assert_close(state(model), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("float16", "set optimizer.scaler = scaler"),
        ({"accumulate_grad_batches": 2}, "does not count the gradients that are there"),
    ],
)
def test_lightning_is_refused_what_would_be_wrong(model, examples, option, told):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = model

        def training_step(self, batch, index):
            return cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return sam(self.model)

    if option == "float16":
        from lightning.pytorch.plugins import MixedPrecision

        scaler = torch.amp.GradScaler("cpu")
        option = {"plugins": MixedPrecision("16-mixed", "cpu", scaler)}
    trainer = lightning.Trainer(max_epochs=1, **option, **QUIET)
    with warnings.catch_warnings(), pytest.raises((ValueError, UserWarning), match=told):
        warnings.filterwarnings("error", "step.closure")
        trainer.fit(Module(), DataLoader(examples, batch_size=12))


# ------------------------------------------------------------------ Accelerate


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_accelerate(model, examples, precision):
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision=precision)
    trained = copy.deepcopy(model)
    prepared, optimizer, loader = accelerator.prepare(
        trained, sam(trained), DataLoader(examples, batch_size=12)
    )
    for inputs, labels in loader:

        def closure(inputs=inputs, labels=labels):
            loss = cross_entropy(prepared(inputs), labels)
            accelerator.backward(loss)
            return loss

        optimizer.step(closure)
    expected = by_hand(model, examples)
    bound = {"rtol": 1e-6, "atol": 1e-7} if precision == "no" else {"rtol": 0.05, "atol": 0.01}
    torch.testing.assert_close(state(trained), expected, **bound)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


# ------------------------------------------------------------------ transformers


class ForTrainer(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, inputs, labels):
        outputs = self.layers(inputs)
        return {"loss": cross_entropy(outputs, labels), "logits": outputs}


def replay_trainer(model, examples, folder, optimizers, **options):
    transformers = pytest.importorskip("transformers")
    from samsweep.adapters.transformers import ReplayTrainer

    class InOrder(ReplayTrainer):
        def _get_train_sampler(self, *_):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    parts = options.get("gradient_accumulation_steps", 1)
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=12 // parts,
        lr_scheduler_type="constant",
        learning_rate=0.1,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **options,
    )
    rows = [{"inputs": x, "labels": y} for x, y in examples]
    return InOrder(
        model=ForTrainer(model), args=arguments, train_dataset=rows, optimizers=optimizers
    )


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("clip", [0.1, 0])
def test_transformers_trainer(model, examples, tmp_path, parts, clip):
    expected = by_hand(model, examples, clip=clip or None, parts=parts)
    options = {"gradient_accumulation_steps": parts, "max_grad_norm": clip}
    trainer = replay_trainer(model, examples, tmp_path, (sam(model), None), **options)
    trainer.train()
    torch.testing.assert_close(state(model), expected, rtol=1e-6, atol=1e-7)


def test_a_training_that_was_interrupted_leaves_nothing_to_replay(model, examples, tmp_path):
    """As where a notebook's cell is stopped and run again."""
    trainer = replay_trainer(model, examples, tmp_path, (sam(model), None))
    forward, passes = trainer.model.forward, []

    @functools.wraps(forward)
    def counted(**batch):
        passes.append(len(batch["labels"]))
        if len(passes) == 4:
            raise KeyboardInterrupt
        return forward(**batch)

    trainer.model.forward = counted
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    passes[:] = [0] * 5
    trainer.train()
    assert len(passes) - 5 == 8  # two for each of four steps


def test_transformers_trainer_says_what_it_is_for(model, examples, tmp_path):
    with pytest.raises(ValueError, match="for an optimizer of samsweep.optim"):
        replay_trainer(model, examples, tmp_path, (None, None))
    with pytest.raises(ValueError, match="take bf16=True"):
        replay_trainer(model, examples, tmp_path, (sam(model), None), fp16=True)
