"""Commands are composed by Hydra, and must give the very cells that they were made for."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from multirun_analysis.tables.commands import FOLDER, sweep_commands
from samsweep.config import AugmentConfig, CellConfig, Variant
from samsweep.records.identity import cell_id

from ..conftest import variant
from ..grids import cell, composed

CIFAR_RECIPE: dict[str, Any] = {
    "lr_schedule": "cosine_per_epoch",
    "epochs": 200,
    "batch_size": 256,
}


def assert_exact(cells: Sequence[CellConfig], num_commands: int, study: str = "mine") -> list[str]:
    """The commands train these cells, each once, and no others."""
    commands = sweep_commands(cells, study)
    points = composed(commands)
    assert sorted(points) == sorted((study, cell_id(c)) for c in cells)
    assert len(commands) == num_commands
    return commands


def corners(rhos: Sequence[float], granularities: Sequence[str]) -> list[Variant]:
    """SGD, SAM and the hybrids."""
    hybrids = [
        variant(name, rho, granularity=granularity)
        for name in ("samdirection", "sammagnitude")
        for rho in rhos
        for granularity in granularities
    ]
    return [variant("sgd"), *(variant("sam", rho) for rho in rhos), *hybrids]


def test_a_whole_design_is_one_command() -> None:
    variants = corners([0.1, 0.2], ["element", "global"])
    cells = [cell(v, seed=seed) for v in variants for seed in (0, 1, 2)]
    (command,) = assert_exact(cells, 1)
    assert command == (
        "python -m samsweep.run -m study=mine dataset=digits model=resnet8 "
        "opt=sgd,sam,samdirection,sammagnitude granularity=element,global rho=0.1,0.2 "
        "'seed=range(0,3)'"
    )


def test_several_models_share_a_command_and_scattered_seeds_are_listed() -> None:
    cells = [
        cell(variant("sam", rho), model=model, seed=seed)
        for model in ("resnet8", "resnet20")
        for rho in (0.05, 1.0)
        for seed in (1, 4)
    ]
    (command,) = assert_exact(cells, 1)
    assert command.endswith("model=resnet20,resnet8 opt=sam rho=0.05,1 seed=1,4")


def test_cells_that_are_no_rectangle_get_a_command_each_and_nothing_beside() -> None:
    cells = [cell(variant("sam", 0.1), seed=0), cell(variant("sam", 0.2), seed=1)]
    assert_exact(cells, 2)


def test_sgd_with_other_seeds_stands_alone() -> None:
    cells = [cell(v, seed=0) for v in corners([0.1], ["element"])]
    assert_exact([*cells, cell(variant("sgd"), seed=1)], 2)


def test_no_cells_need_no_command() -> None:
    assert sweep_commands([], "mine") == []


@pytest.mark.parametrize("curvature", ["hutchinson", "gauss_newton", "exact"])
def test_sgd_beside_sgdhess_stays_sgd(curvature: str) -> None:
    factors = [variant("sgdhess", rho, curvature=curvature) for rho in (0.05, 2.0)]
    assert_exact([cell(v) for v in [variant("sgd"), *factors]], 2)


@pytest.mark.parametrize("scaled", ["weights", None])
@pytest.mark.parametrize("eta", [0.01, 0.0])
def test_the_adaptive_design_is_one_command(eta: float, scaled: str | None) -> None:
    adaptive: dict[str, Any] = {"ascent": "adaptive", "eta": eta, "scaled": scaled}
    variants = [
        variant("sgd"),
        variant("asam", 0.5, eta=eta, scaled=scaled),
        variant("samdirection", 0.5, **adaptive),
        variant("sammagnitude", 0.5, granularity="element", **adaptive),
    ]
    assert_exact([cell(v) for v in variants], 1)
    assert_exact([cell(variants[1])], 1)
    assert_exact([cell(variants[2])], 1)


def test_plain_and_adaptive_stay_apart() -> None:
    cells = [cell(variant("sam", 0.5)), cell(variant("asam", 0.5))]
    asam = assert_exact(cells, 2)[1]
    assert "opt=asam rho=0.5" in asam, "what the file of asam says is not said again"


@pytest.mark.parametrize(
    "changes",
    [
        {"lr": 1.0, "momentum": 0.0, "weight_decay": 0.0},
        {"lr": 5e-5, "weight_decay": 1e-12},
        {"base": "adamw", "momentum": None},
        {"base": "rmsprop", "epochs": 3, "batch_size": 64},
        {"lr_schedule": "constant", "precision": "bfloat16"},
        {"dataset": {"label_noise": 0.0}},
        {"dataset": {"label_noise": 1.0}},
        {"dataset": {"augment": AugmentConfig(crop_padding=0, flip=True, cutout_prob=None)}},
        {"dataset": {"augment": AugmentConfig(crop_padding=2, cutout=3, cutout_prob=1.0)}},
    ],
)
def test_whatever_is_not_the_default_is_said(changes: dict[str, Any]) -> None:
    assert_exact([cell(variant("sam", 0.1), **changes)], 1)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_a_data_set_brings_its_own_recipe(name: str) -> None:
    augment = AugmentConfig(crop_padding=4, flip=True, cutout=16, cutout_prob=0.5)
    dataset = {"name": name, "augment": augment, "label_noise": 0.0}
    (command,) = assert_exact(
        [cell(variant("sam", 0.1), dataset=dataset, model="resnet18", **CIFAR_RECIPE)], 1
    )
    assert command == (
        f"python -m samsweep.run -m study=mine dataset={name} model=resnet18 opt=sam rho=0.1 seed=0"
    )


def test_a_folder_of_images_is_named_by_a_word_to_replace() -> None:
    dataset = {"name": "image_folder", "image_size": 32, "fingerprint": "abc"}
    augment = AugmentConfig(crop_padding=4, flip=True, cutout=16, cutout_prob=0.5)
    folder = cell(
        variant("sgd"), dataset=dataset | {"augment": augment, "label_noise": 0.0}, **CIFAR_RECIPE
    )
    (command,) = sweep_commands([folder], "mine")
    assert f"dataset=image_folder dataset.path={FOLDER} dataset.image_size=32 model" in command


def test_random_sets_of_cells_are_covered_exactly() -> None:
    rng = random.Random(0)
    everything = [
        cell(v, seed=seed)
        for v in [*corners([0.1, 0.2], ["element"]), variant("sgdhess", 0.1), variant("asam", 0.1)]
        for seed in range(3)
    ]
    for share in (0.3, 0.8):
        cells = [c for c in everything if rng.random() < share]
        commands = sweep_commands(cells, "mine")
        points = composed(commands)
        assert sorted(points) == sorted(("mine", cell_id(c)) for c in cells)
        assert len(commands) < len(cells)
