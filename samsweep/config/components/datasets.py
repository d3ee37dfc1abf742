"""Data sets, and what is known of one without loading it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from samsweep.config.factory import Factory
from samsweep.config.registry import Component, Registry


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """What is known of a data set without loading it.

    Args:
        num_outputs: What a network returns for an example: a number for each class, or the values
            to regress.
        input_shape: Of an example, without the batch; (channels, height, width) of an image.
        num_train: Training examples, without the validation split.
        num_val: Validation examples.
        num_test: Test examples.
        is_classification: Whether labels are classes.
        input_dtype: As torch calls it; ``uint8`` are pixels.
        label_shape: Of an example's values to regress; () is one value.
        num_tokens: Of inputs that are token ids: they lie below it.
        fingerprint: Hash of the contents, for data that only its user knows; else None.
    """

    num_outputs: int
    input_shape: tuple[int, ...]
    num_train: int
    num_val: int
    num_test: int
    is_classification: bool = True
    input_dtype: str = "uint8"
    label_shape: tuple[int, ...] = ()
    num_tokens: int | None = None
    fingerprint: str | None = None

    @property
    def image_size(self) -> int | None:
        """Height and width in pixels of square images; None of anything else."""
        return self.input_shape[-1] if len(self.input_shape) == 3 else None

    @property
    def channels(self) -> int | None:
        """Channels of an image; None of anything else."""
        return self.input_shape[0] if len(self.input_shape) == 3 else None


def known_to_models(
    *, num_outputs: int, input_shape: tuple[int, ...], num_tokens: int | None
) -> dict[str, Any]:
    """What only the data know, by the names of the parameters through which a model takes it."""
    is_image = len(input_shape) == 3
    names: dict[str, Any] = {
        **dict.fromkeys(("num_classes", "num_outputs"), num_outputs),
        "in_features": math.prod(input_shape),
        "input_shape": input_shape,
    }
    if is_image or (len(input_shape) == 1 and num_tokens is None):
        names |= dict.fromkeys(("channels", "in_channels", "in_chans"), input_shape[0])
    if is_image:
        names |= dict.fromkeys(("image_size", "img_size"), input_shape[-1])
    if num_tokens is not None:
        names |= dict.fromkeys(("num_tokens", "vocab_size"), num_tokens)
    return names


@dataclass(frozen=True, kw_only=True)
class DatasetComponent(Component):
    """A data set.

    Args:
        info: What is known of it without loading it, or what finds that out; None to load it once,
            in a process of its own, and remember.
        fingerprint: Of the contents, which is in the identity of cells: a text, or what gives one
            for the arguments that it has parameters for; None is a hash of the arrays, or what
            ``info`` says.
        download: What fetches it to ``data_dir`` where it is not there yet.
        splits: Whether the factory gives splits as tensors, which ours do, not arrays to be
            checked and split.
    """

    info: DataInfo | Factory | None = None
    fingerprint: str | Callable[..., str] | None = None
    download: Factory | None = None
    splits: bool = False


def _cifar(num_classes: int) -> DatasetComponent:
    info = DataInfo(
        num_outputs=num_classes,
        input_shape=(3, 32, 32),
        num_train=45_000,
        num_val=5_000,
        num_test=10_000,
    )
    return DatasetComponent(
        factory="samsweep.data.cifar.load_cifar",
        args={"name": f"cifar{num_classes}"},
        info=info,
        download="samsweep.data.cifar.download",
        splits=True,
        ours=True,
    )


def _torchvision(
    name: str, input_shape: tuple[int, int, int], num_published: int, num_test: int
) -> DatasetComponent:
    """Of ten classes; a tenth of the training images is set aside for validation."""
    num_val = round(num_published / 10)
    return DatasetComponent(
        factory="samsweep.data.torchvision_sets.load",
        args={"name": name},
        info=DataInfo(
            num_outputs=10,
            input_shape=input_shape,
            num_train=num_published - num_val,
            num_val=num_val,
            num_test=num_test,
        ),
        download="samsweep.data.torchvision_sets.download",
        splits=True,
        ours=True,
    )


DATASETS = Registry(
    "dataset",
    DatasetComponent,
    {
        "digits": DatasetComponent(
            factory="samsweep.data.digits.load_digits",
            splits=True,
            info=DataInfo(
                num_outputs=10, input_shape=(1, 8, 8), num_train=898, num_val=180, num_test=719
            ),
            ours=True,
        ),
        "cifar10": _cifar(10),
        "cifar100": _cifar(100),
        "svhn": _torchvision("svhn", (3, 32, 32), 73_257, 26_032),
        "fashion_mnist": _torchvision("fashion_mnist", (1, 28, 28), 60_000, 10_000),
        "stl10": _torchvision("stl10", (3, 96, 96), 5_000, 8_000),
        "image_folder": DatasetComponent(
            factory="samsweep.data.image_folder.load_folder",
            splits=True,
            info="samsweep.data.folder_tree.describe_folder",
            ours=True,
        ),
        "parquet": DatasetComponent(
            factory="samsweep.data.parquet.load_parquet",
            splits=True,
            info="samsweep.data.parquet.describe_parquet",
            ours=True,
        ),
        "arrays": DatasetComponent(
            factory="samsweep.data.arrays.load_arrays",
            info="samsweep.data.arrays.describe_arrays",
            ours=True,
        ),
    },
)
