import subprocess
import sys
from pathlib import Path

import pytest

from samsweep.config import DATASETS, AugmentConfig, ConfigError, DatasetConfig
from samsweep.data.dataset_info import describe
from samsweep.data.folder_tree import describe_folder


def chosen(name, **values):
    return DatasetConfig(name=name, augment=AugmentConfig(), **values)


@pytest.mark.parametrize("name", ["digits", "cifar10", "cifar100"])
def test_built_in_data_sets_come_from_the_registry(name):
    assert describe(chosen(name), None) is DATASETS[name].info


def test_a_folder_is_read(tree):
    assert describe(chosen("image_folder", image_size=5), tree) == describe_folder(tree, 5)


def test_a_folder_needs_a_path():
    with pytest.raises(ConfigError, match=r"dataset\.path is missing: .*set dataset\.path=VALUE"):
        describe(chosen("image_folder"), None)


def test_unknown_name():
    with pytest.raises(ConfigError, match="dataset 'cifar' is unknown: did you mean 'cifar10"):
        describe(chosen("cifar"), None)


def test_values_without_effect_are_refused():
    with pytest.raises(ConfigError) as caught:
        describe(chosen("digits", image_size=16), Path("images"))
    assert caught.value.problems == (
        "dataset.path=images has no effect on dataset=digits: "
        "remove it or use dataset=image_folder.",
        "dataset.image_size=16 has no effect on dataset=digits: "
        "remove it or use dataset=image_folder.",
    )


def test_planning_needs_no_torch(tree):
    script = (
        "import sys; from pathlib import Path\n"
        "from samsweep.config import AugmentConfig, DatasetConfig\n"
        "from samsweep.data import cifar, load\n"
        "from samsweep.data.dataset_info import describe\n"
        "folder = DatasetConfig(name='image_folder', augment=AugmentConfig())\n"
        f"describe(folder, Path({str(tree)!r}))\n"
        "load.download_dataset('digits', Path('unused'))\n"
        "cifar._CIFAR['cifar100'].release.is_available(Path('unused'))\n"
        "print([m for m in ('torch', 'torchvision', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == "[]"
