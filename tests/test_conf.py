"""Every file under conf/ composes and can be run."""

import itertools
from pathlib import Path

import pytest
import yaml
from helpers import compose_run
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from samsweep.config import MODELS, conf_dir
from samsweep.hydra_config import register_resolvers

GROUPS = ["model", "opt", "dataset", "sharpness", "tracking"]
OPTIONS = [
    (group, file.stem) for group in GROUPS for file in sorted((conf_dir() / group).glob("*.yaml"))
]
HYDRA = ("sweeper/samsweep.yaml", "launcher/local.yaml", "launcher/slurm.yaml")
EXPERIMENTS = sorted((conf_dir() / "experiment").glob("*.yaml"))


def test_no_file_is_left_out():
    known = {conf_dir() / group / f"{name}.yaml" for group, name in OPTIONS}
    known |= {*EXPERIMENTS, conf_dir() / "config.yaml"}
    known |= {conf_dir() / "hydra" / f for f in HYDRA}
    assert set(conf_dir().rglob("*.yaml")) == known


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """What an option for a folder of images needs beside itself."""
    from PIL import Image

    root = tmp_path_factory.mktemp("images")
    for split, number in (("train", 4), ("test", 1)):
        for label in ("cat", "dog"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for i in range(number):
                Image.new("RGB", (16, 16), (i, 0, 0)).save(folder / f"{i}.png")
    return f"dataset.path={root}"


@pytest.fixture(scope="session")
def own(images, tmp_path_factory):
    """What options for data of one's own need beside themselves."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = tmp_path_factory.mktemp("own")
    x, y = np.zeros((8, 3), dtype=np.float32), np.arange(8) % 2
    np.savez(root / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    image = next(Path(images.partition("=")[2]).rglob("*.png")).read_bytes()
    for split in ("train", "test"):
        pq.write_table(pa.table({"image": [image] * 8, "label": y}), root / f"{split}.parquet")
    few = "batch_size=4"
    return {
        "image_folder": [images, few],
        "arrays": [f"dataset.path={root}/data.npz", few],
        "parquet": [f"dataset.path={root}", few],
    }


#: Bases of other options, and what they need to be one.
BASES = {("dataset", "own"): ["+dataset.name=digits"]}


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_an_option_composes(group, name, own):
    beside = BASES.get((group, name)) or (own.get(name, []) if group == "dataset" else [])
    assert compose_run(f"{group}={name}", *beside)


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_an_option_says_what_it_is(group, name):
    text = (conf_dir() / group / f"{name}.yaml").read_text()
    assert group == "model" or text.startswith("# ")


def swept(key, values):
    """The override of each value of a grid, as Hydra reads it: ``1,2`` or ``range(0,2)``."""
    override = OverridesParser.create().parse_override(f"{key}={values}")
    found = override.sweep_string_iterator() if override.is_sweep_override() else [values]
    return [f"{key}={value}" for value in found]


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_an_experiment_opens_with_its_command_and_its_grid_composes(file, own):
    text = file.read_text()
    lines = text.splitlines()
    assert lines[0] == "# @package _global_"
    command = f"# samsweep run +experiment={file.stem}"
    of_images = "image_folder" in text
    assert lines[1].startswith(f"{command} dataset.path=") if of_images else lines[1] == command
    # A preset that builds on another one has the other's grid.
    sweeper = yaml.safe_load(text).get("hydra", {}).get("sweeper", {})
    for grid in [sweeper.get("params", {}), *sweeper.get("grids", [])]:
        assert all(isinstance(v, str) for v in grid.values()), "a YAML list would become one value"
        points = {key: swept(key, values) for key, values in grid.items()}
        beside = [f"+experiment={file.stem}", *(own["image_folder"] if of_images else [])]
        for key, values in points.items():
            # What is of an option, such as when's arguments, fits that option alone.
            others = [points[other][0] for other in points if other != key]
            for value in values:
                assert compose_run(*beside, *others, value)


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_an_experiment_cannot_silently_run_one_cell(file):
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=[f"+experiment={file.stem}"], return_hydra_config=True)
    assert config.hydra.mode.name == "MULTIRUN"
    shared = {"accuracy", "amplified", "sgdhess", "sharpness"}
    assert config.study == ("empirical_sam" if file.stem in shared else file.stem)


@pytest.mark.slow
def test_the_whole_study_is_the_union_of_its_tables():
    def cells(name):
        sweeper = yaml.safe_load((conf_dir() / f"experiment/{name}.yaml").read_text())
        sweeper = sweeper["hydra"]["sweeper"]
        for grid in sweeper.get("grids", [sweeper.get("params")]):
            options = [[f"{key}={v}" for v in values.split(",")] for key, values in grid.items()]
            for point in itertools.product(*options):
                yield compose_run(f"+experiment={name}", *point).cell

    parts = {c for name in ("accuracy", "sharpness", "sgdhess", "amplified") for c in cells(name)}
    whole = list(cells("empirical_sam"))
    assert len(whole) == 42
    assert set(whole) == parts
    assert len(parts) == 40


def test_every_model_has_an_option():
    assert {file.stem for file in (conf_dir() / "model").glob("*.yaml")} == set(MODELS)


def test_conf_is_where_the_user_finds_it():
    assert conf_dir() == Path(__file__).parents[1] / "conf"


@pytest.mark.parametrize(("name", "number"), [("ablation", 24), ("ablation_cifar100_mini", 15)])
def test_an_ablation_compares_sam_with_one_cell_of_each_other_kind(name, number, own):
    """Each level is its preset, so that ``effects=opt:sam`` tells all of them apart."""
    sweeper = yaml.safe_load((conf_dir() / f"experiment/{name}.yaml").read_text())
    beside = [f"+experiment={name}", *(own["image_folder"] if "cifar" in name else [])]
    found = [
        compose_run(*beside, *point).cell
        for grid in sweeper["hydra"]["sweeper"]["grids"]
        for point in itertools.product(*(swept(key, values) for key, values in grid.items()))
    ]
    assert len(found) == len(set(found)) == number
    assert [cell.variant.name for cell in found].count("sam") == 1
    variants = [cell.variant.model_dump(exclude_none=True) for cell in found]
    [sam] = [one for one in variants if one["name"] == "sam"]
    for one in variants:
        other = {key.removesuffix("_args") for key in {*one, *sam} if one.get(key) != sam.get(key)}
        # USAM and tensors by themselves have a rho, too, with which they ascend as far as SAM does.
        far = {"rho"} if "ascent" in other else set()
        part = {"granularity", "direction", "magnitude"}
        assert one["name"] == "sgd" or len(other - {"name"} - far - part) <= 1
