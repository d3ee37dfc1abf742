"""Composition of a grid, against Hydra's own of each point."""

import math

import pytest
from helpers import leave, point
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from samsweep.config import ConfigError, conf_dir
from samsweep.hydra_config import Composer, register_resolvers, to_run_config
from samsweep.hydra_config.launcher import _job_return
from samsweep.records.schema import Progress


@pytest.fixture
def hydra():
    register_resolvers()
    GlobalHydra.instance().clear()
    path = create_config_search_path(str(conf_dir()))
    yield Hydra.create_main_hydra2(task_name="run", config_search_path=path)
    GlobalHydra.instance().clear()


def master_of(hydra, *overrides):
    return hydra.compose_config("config", list(overrides), run_mode=RunMode.MULTIRUN)


@pytest.mark.parametrize(
    "overrides",
    [
        ["rho=0.3", "seed=4"],
        ["model=resnet18", "opt=sgd", "rho=1e-3"],
        ["rho=0.3", "opt=hybrid", "opt.direction=sam", "granularity=global"],
        ["opt=sgdhess", "opt.curvature=exact"],
        ["dataset=cifar100", "epochs=3", "dataset.augment.flip=false"],
        ["epochs=3", "dataset=cifar100", "epochs=4"],
        ["sharpness=top5", "sharpness.seed=3", "tracking=wandb", "tracking.mode=offline"],
        ["+experiment=accuracy", "seed=1"],
        ["num_threads=null", "checkpoint_every_seconds=5"],
        ["sharpness.measures=[top5]", "study=other"],
        ["hydra.job.chdir=false", "hydra/launcher=basic"],
        ["+sharpness.note=1"],
        ["~study"],
    ],
)
def test_a_point_is_composed_as_hydra_does(hydra, overrides):
    master = master_of(hydra)
    theirs = hydra.config_loader.load_sweep_config(master, overrides)
    ours = Composer(hydra.config_loader, master).config(overrides)
    for config in (ours, theirs):
        # What the point was called on the command line; nothing of ours depends on it.
        config.hydra.overrides.task = []
        config.hydra.job.override_dirname = ""
    assert OmegaConf.to_yaml(ours) == OmegaConf.to_yaml(theirs)


def test_points_do_not_share_values(hydra):
    composer = Composer(hydra.config_loader, master_of(hydra, "model=resnet20"))
    grid = [[f"model={m}", f"rho={r}"] for m in ("resnet8", "resnet18") for r in (0.1, 0.2)]
    found = composer.points([*grid, ["seed=1"]])
    assert [(p.run.cell.model.name, p.run.cell.variant.rho) for p in found] == [
        ("resnet8", 0.1),
        ("resnet8", 0.2),
        ("resnet18", 0.1),
        ("resnet18", 0.2),
        ("resnet8", 0.1),
    ]
    assert len({p.folder for p in found}) == 5
    assert all(p.folder.path.name.startswith(p.run.cell.model.name) for p in found)


def test_options_are_composed_once(hydra, monkeypatch):
    composed = []
    loader = hydra.config_loader
    original = loader.load_sweep_config

    def counted(master, overrides):
        composed.append(overrides)
        return original(master, overrides)

    master = master_of(hydra)
    monkeypatch.setattr(loader, "load_sweep_config", counted)
    opts = ("sgd", "sam")
    grid = [
        [f"opt={opt}", f"rho={rho}", f"seed={s}"] for opt in opts for rho in (0, 1) for s in (0, 1)
    ]
    assert len(Composer(loader, master).points(grid)) == 8
    assert composed == [["opt=sgd"], ["opt=sam"]]


def test_every_problem_is_told_once(hydra):
    composer = Composer(hydra.config_loader, master_of(hydra))
    grid = [["rho=-1"], ["rho=0.1"], ["rho=-1", "seed=1"], ["opt=smm"], ["epochs=0"], ["lr=fast"]]
    with pytest.raises(ConfigError) as caught:
        composer.points(grid)
    assert len(caught.value.problems) == 4
    assert caught.value.problems[0] == "rho=-1: should be greater than or equal to 0."


def test_the_configuration_becomes_a_run_with_absolute_paths(hydra):
    config = hydra.compose_config("config", ["data_dir=here"], run_mode=RunMode.RUN)
    assert to_run_config(config).data_dir.is_absolute()


def test_a_sweeper_that_optimizes_gets_the_last_validation_of_a_pruned_cell(tmp_path):
    progress = Progress(
        epoch=3, num_epochs=40, steps_per_epoch=7, val_accuracy=12.5, updated="2026-01-01T00:00:00"
    )
    for seed, status in enumerate(("pruned", "diverged", "interrupted")):
        leave(tmp_path, f"seed={seed}", status=status, progress=progress)
    points = [point(tmp_path, f"seed={seed}") for seed in range(3)]
    pruned, diverged, interrupted = (_job_return(each).return_value for each in points)
    assert (pruned, diverged) == (12.5, 0.0) and math.isnan(interrupted)
