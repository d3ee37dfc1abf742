"""Which cells are meant by the keys and values of a command line."""

import pytest
from helpers import compose_run, leave
from hydra.core.override_parser.overrides_parser import OverridesParser

from samsweep.config import ConfigError
from samsweep.sweep.select import KEYS, select, values_of


@pytest.fixture
def study(tmp_path):
    """Cells of several kinds; ``add`` makes one."""
    study = tmp_path / "multirun/mine"
    (study / "cells").mkdir(parents=True)
    return study


def add(study, *overrides, **changes):
    return leave(study.parents[1], "study=mine", *overrides, **changes)


def found(study, **filters):
    asked = {key.replace("__", "."): typed(value) for key, value in filters.items()}
    return set(select(study, asked).complete)


def typed(texts):
    """The values of a command line, as Hydra reads them."""
    parse = OverridesParser.create().parse_override
    return [parse(f"key={text}").value() for text in str(texts).split(",")]


def test_all_keys_are_told_of_a_cell():
    assert set(values_of(compose_run().cell)) == set(KEYS)


@pytest.mark.parametrize(
    ("mine", "other"),
    [
        ("opt.curvature=exact", "opt.curvature=hutchinson"),
        ("model=resnet20", "model=resnet8"),
        ("opt=sgd", "opt=sam"),
        ("rho=0.30", "rho=0.1"),
        ("seed=3", "seed=13"),
        ("epochs=5", "epochs=50"),
        ("lr=5e-2", "lr=0.5"),
        ("momentum=0", "momentum=0.9"),
        ("base=adam", "base=sgd"),
        ("precision=bfloat16", "precision=float32"),
        ("dataset=cifar10", "dataset=cifar100"),
        ("dataset.label_noise=0.2", "dataset.label_noise=0.4"),
        ("dataset.augment.flip=true", "dataset.augment.flip=false"),
        ("dataset.augment.crop_padding=0", "dataset.augment.crop_padding=1"),
    ],
)
def test_every_key_by_which_cells_differ_tells_them_apart(study, mine, other):
    opt = ["opt=sgdhess"] if "curvature" in mine else []
    meant, _ = add(study, *opt, mine), add(study, *opt, other)
    key, value = mine.split("=")
    assert found(study, **{key.replace(".", "__"): value}) == {meant}


def test_several_values_and_several_keys(study):
    cells = {
        (opt, rho, seed): add(study, f"opt={opt}", f"rho={rho}", f"seed={seed}")
        for opt in ("sam", "samdirection")
        for rho in (0.1, 0.2, 0.4)
        for seed in (0, 1)
    }
    assert found(study, opt="sam", rho="0.1,0.4", seed="1") == {
        cells["sam", 0.1, 1],
        cells["sam", 0.4, 1],
    }
    assert found(study) == set(cells.values())


def test_a_hybrid_is_found_by_the_variant_that_it_is(study):
    hybrid = add(study, "opt=hybrid", "opt.direction=sgd", "opt.magnitude=sam")
    adaptive = add(study, "opt=hybrid", "opt.ascent=adaptive")
    add(study, "opt=sam")
    assert found(study, opt="sammagnitude") == {hybrid}
    assert found(study, opt="samdirection", opt__ascent="adaptive") == {adaptive}


def test_an_optimizer_without_rho_is_meant_only_where_it_is_named(study):
    sgd, sam = add(study, "opt=sgd"), add(study, "opt=sam", "rho=0.1")
    add(study, "opt=sam", "rho=0.2")
    assert found(study, rho="0.1") == {sam}
    assert found(study, opt="sgd,sam", rho="0.1") == {sgd, sam}
    assert found(study, rho="null") == {sgd}


def test_values_that_no_cell_has_are_told_with_those_that_there_are(study):
    add(study, "opt=sgd")
    for rho in (0.2, 0.1, 10):
        add(study, "opt=sam", f"rho={rho}")
    with pytest.raises(ConfigError) as caught:
        select(study, {"rho": [0.1, 0.3], "opt": ["smm"], "seed": [0]})
    assert caught.value.problems == (
        "rho=0.3: no cell of study mine has it; choose among 0.1, 0.2, 10, null.",
        "opt=smm: no cell of study mine has it; choose among sam, sgd.",
    )


def test_that_no_cell_is_meant_is_told(study):
    with pytest.raises(ConfigError, match="There is no cell in study mine yet"):
        select(study, {})
    add(study, "opt=sgd", "seed=1")
    add(study, "opt=sam", "seed=2")
    with pytest.raises(ConfigError, match="No cell of study mine has opt=sgd seed=2 together"):
        select(study, {"opt": ["sgd"], "seed": [2]})


def test_what_cannot_be_measured_is_skipped_and_named(study):
    trained = add(study, "seed=0")
    for seed, status in enumerate(("interrupted", "failed", "failed", "diverged"), start=1):
        add(study, f"seed={seed}", status=status)
    add(study, "seed=8", results_version=0)
    broken = study / "cells/broken"
    broken.mkdir()
    (broken / "record.json").write_text("{")
    (study / "cells/starting").mkdir()
    selection = select(study, {})
    assert set(selection.complete) == {trained}
    told = str(selection)
    for fact in ("6 cells", "2 failed", "1 interrupted", "1 diverged", "1 of another version"):
        assert fact in told
    assert f"{broken}/record.json" in told
    assert len(selection.skipped) == 5
    assert str(select(study, {"seed": [4]})).startswith("2 cells skipped: 1 diverged, 1 unreadable")
