"""What a cell is called, and what its name does not depend on."""

import json
import tarfile
from pathlib import Path

import pytest
from helpers import compose_run

from samsweep.config import CellConfig
from samsweep.records import identity
from samsweep.records.identity import cell_id, wanted_measurements

RESULTS = Path(__file__).parents[2] / "docs/results"
ARCHIVES = sorted(RESULTS.glob("*/records.tar.xz"))


def name(*overrides):
    return cell_id(compose_run(*overrides).cell)


def test_ids_are_readable():
    assert name("opt=sgd").startswith("resnet8-sgd-digits-seed0-")
    assert name("opt=samdirection", "rho=0.25", "granularity=tensor", "seed=3").startswith(
        "resnet8-samdirection-tensor-rho0.25-digits-seed3-"
    )
    assert name("opt=sgdhess", "rho=2", "opt.curvature=exact").startswith(
        "resnet8-sgdhess-exact-rho2-digits-seed0-"
    )


def test_ids_are_what_they_were():
    """A change here orphans every result on every user's disk: bump RESULTS_VERSION instead."""
    assert name() == "resnet8-sam-rho0.1-digits-seed0-9065a26f18"
    assert name("opt=sgd") == "resnet8-sgd-digits-seed0-a6444b5ff7"


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.parent.name)
def test_committed_records_keep_their_ids(archive):
    with tarfile.open(archive) as records:
        files = [file for file in records if file.name.endswith("/record.json")]
        for file in files:
            record = json.load(records.extractfile(file))
            cell = CellConfig.model_validate_json(json.dumps(record["identity"]))
            assert cell_id(cell) == record["cell_id"] == Path(file.name).parent.name
    assert files


@pytest.mark.parametrize(
    "override",
    [
        "study=other",
        "device=cpu",
        "num_threads=1",
        "data_dir=elsewhere",
        "sharpness=none",
        "sharpness.num_examples=10",
        "tracking=wandb",
        "keep_checkpoints=true",
        "checkpoint_every_steps=5",
        "diagnostics_every=1",
    ],
)
def test_how_a_cell_runs_is_no_identity(override):
    assert name(override) == name()


@pytest.mark.parametrize(
    "override",
    [
        "model=resnet20",
        "opt=sgd",
        "rho=0.2",
        "seed=1",
        "epochs=5",
        "lr=0.2",
        "base=adam",
        "batch_size=64",
        "precision=bfloat16",
        "lr_schedule=constant",
        "dataset.label_noise=0",
        "dataset.augment.flip=true",
    ],
)
def test_what_is_trained_is_identity(override):
    assert name(override) != name()


def test_a_new_results_version_is_another_cell(monkeypatch):
    before = name()
    monkeypatch.setattr(identity, "RESULTS_VERSION", identity.RESULTS_VERSION + 1)
    assert name() != before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("rho=1", "rho=1.0"),
        ("rho=0.1", "rho=1e-1"),
        ("lr=0.1", "lr=.1"),
        ("rho=0.3", "rho=0.30000000000000004"),
        ("lr=0.3", "lr=0.30000000000000004"),
        ("opt=asam opt.eta=0.3", "opt=asam opt.eta=0.30000000000000004"),
        *(
            (f"{key}=0", f"{key}=-0.0")
            for key in ("rho", "lr", "momentum", "weight_decay", "dataset.label_noise")
        ),
    ],
)
def test_spellings_of_one_number_are_one_cell(one, other):
    assert name(*one.split()) == name(*other.split())


def test_numbers_that_differ_in_twelve_digits_are_two_cells():
    assert name("rho=0.3") != name("rho=0.300000000001")


def test_what_asam_scales_is_identity_where_it_is_used():
    assert compose_run("opt=asam").cell.identity()["variant"]["scaled"] == "weights"
    before_the_choice = compose_run("opt=asam", "opt.scaled=matrices").cell
    assert "scaled" not in before_the_choice.identity()["variant"]
    assert cell_id(before_the_choice) == "resnet8-asam-rho0.1-digits-seed0-dc8143c08c"
    assert name("opt=hybrid", "opt.scaled=matrices") == name("opt=hybrid")


def test_a_probability_without_a_cutout_is_no_identity():
    assert name("dataset.augment.cutout_prob=0.3") == name()
    with_cutout = "dataset.augment.cutout=2"
    assert name(with_cutout, "dataset.augment.cutout_prob=0.3") != name(with_cutout)


def test_measurements_are_keyed_by_what_decides_their_value():
    def keys(*overrides):
        return wanted_measurements(compose_run(*overrides).sharpness)

    assert list(keys().values()) == ["lambda_max"]
    assert list(keys("sharpness=top5").values()) == ["top5"]
    assert keys("sharpness=none") == {}
    assert keys("sharpness.physical_batch_size=7") == keys()
    # There are only 898 images, so that more of them are the same measurement.
    assert keys("sharpness.num_examples=5000") == keys()
    for other in ("num_examples=100", "tolerance=1e-2", "weights=best", "seed=1", "max_hvps=9"):
        assert keys(f"sharpness.{other}") != keys()


@pytest.mark.parametrize(
    ("measure", "other"),
    [
        ("worst_case_l2", "worst_case.rho_linf=0.5"),
        ("adaptive_worst_case_l2", "worst_case.rho_l2=0.5"),
        ("worst_case_linf", "seed=1"),
        ("sam_gap", "seed=1"),
        ("average_case", "average_case.adaptive_rho=0.5"),
        ("landscape_1d", "landscape.num_points_2d=7"),
        ("landscape_2d", "landscape.num_points_1d=7"),
    ],
)
def test_a_setting_of_another_measure_is_no_other_measurement(measure, other):
    def keys(*overrides):
        asked = [f"sharpness.measures=[{measure}]", *overrides]
        return wanted_measurements(compose_run(*asked).sharpness)

    assert keys(f"sharpness.{other}") == keys()
    assert keys("sharpness.num_examples=100") != keys()


def test_no_batch_is_larger_than_what_is_measured():
    settings = compose_run("sharpness.num_examples=50").sharpness
    assert settings.worst_case.batch_size == settings.sam_gap.batch_size == 50
    assert settings.empirical_sam.batch_size == 256
