"""Examples as arrays: what any source of data gives, checked and described; and ``.npz`` files.

A data set is a mapping of ``x_train``, ``y_train``, ``x_test`` and ``y_test``, and ``x_val`` and
``y_val`` where its maker sets validation examples aside (Keras' names). Inputs are pixels (uint8),
token ids (integers) or numbers (floats), labels are classes (integers from 0, one per example) or
values to regress (floats). Free of torch.
"""

from __future__ import annotations

import functools
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samsweep.config import ConfigError, DataInfo

Array = NDArray[Any]
#: By the names above.
Arrays = dict[str, Array]

_REQUIRED = ("x_train", "y_train", "x_test", "y_test")
_NAMES = (*_REQUIRED, "x_val", "y_val")
#: Last sizes of uint8 images with their channels last.
_CHANNELS = (1, 3, 4)


def load_arrays(path: Path) -> Arrays:
    """The arrays of an ``.npz`` file, checked.

    Args:
        path: A file with the names above.

    Raises:
        ConfigError: If it is none, or its arrays are no data set.
    """
    try:
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array")
            raw = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"dataset.path={path} is not a readable .npz file ({error}): write it with "
            f"numpy.savez(path, {', '.join(f'{name}=...' for name in _REQUIRED)})."
        ) from error
    return checked(raw, f"dataset.path={path}")


def describe_arrays(path: Path) -> DataInfo:
    """What an ``.npz`` file holds.

    Raises:
        ConfigError: See :func:`load_arrays`.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise ConfigError(
            f"dataset.path={path} cannot be read ({error.strerror}): give an .npz file."
        ) from None
    return _describe_file(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=16)
def _describe_file(path: Path, *state: int) -> DataInfo:
    return info_of(load_arrays(path))


def checked(raw: Mapping[str, Any], what: str) -> Arrays:
    """Arrays of the types that are trained on, if they are a data set.

    Channels of images come first; numbers are float32, ids and classes int64.

    Args:
        raw: By the names above; arrays, or tensors on the CPU.
        what: They are, for messages.

    Raises:
        ConfigError: With a sentence for everything that is wrong.
    """
    problems = [f"{what} has no {name}: give {', '.join(_REQUIRED)}." for name in _lacking(raw)]
    problems += [
        f"{what} has {name}, which means nothing: name arrays {', '.join(_NAMES)}."
        for name in raw
        if name not in _NAMES
    ]
    if problems:
        raise ConfigError(*problems)
    arrays = {name: _converted(name, np.asarray(values)) for name, values in raw.items()}
    problems = [f"{what}: {problem}" for problem in _problems(arrays)]
    if problems:
        raise ConfigError(*problems)
    return arrays


def info_of(arrays: Arrays) -> DataInfo:
    """What is known of checked arrays, with a hash of their contents."""
    inputs, labels = arrays["x_train"], arrays["y_train"]
    num_train, num_val = len(inputs), _num_val(arrays)
    classes = labels.dtype.kind == "i"
    ids = inputs.dtype.kind == "i"
    return DataInfo(
        num_outputs=int(labels.max()) + 1 if classes else int(np.prod(labels.shape[1:])),
        input_shape=tuple(inputs.shape[1:]),
        num_train=num_train if "x_val" in arrays else num_train - num_val,
        num_val=num_val,
        num_test=len(arrays["x_test"]),
        is_classification=classes,
        input_dtype=str(inputs.dtype),
        label_shape=tuple(labels.shape[1:]),
        num_tokens=max(int(arrays[x].max()) + 1 for x in _inputs(arrays)) if ids else None,
        fingerprint=_fingerprint(arrays),
    )


def _lacking(raw: Mapping[str, Any]) -> list[str]:
    lacking = [name for name in _REQUIRED if name not in raw]
    pair = [name for name in ("x_val", "y_val") if name in raw]
    return lacking + [name for name in ("x_val", "y_val") if len(pair) == 1 and name not in raw]


def _num_val(arrays: Arrays) -> int:
    """Validation examples: those given, or a tenth of the training examples, at least one."""
    if "x_val" in arrays:
        return len(arrays["x_val"])
    return max(1, round(len(arrays["x_train"]) / 10))


def _inputs(arrays: Arrays) -> list[str]:
    return [name for name in arrays if name.startswith("x_")]


def _converted(name: str, values: Array) -> Array:
    if name.startswith("x_") and values.dtype == np.uint8:
        if values.ndim == 3:
            values = values[:, None]
        elif (
            values.ndim == 4 and values.shape[-1] in _CHANNELS and values.shape[1] not in _CHANNELS
        ):
            values = values.transpose(0, 3, 1, 2)
        if values.ndim == 4:
            return np.ascontiguousarray(values)
        return values.astype(np.float32)
    if values.dtype.kind in "iu" or (values.dtype.kind == "b" and name.startswith("y_")):
        return values.astype(np.int64)
    if values.dtype.kind in "fb":
        return values.astype(np.float32)
    return values


def _problems(arrays: Arrays) -> list[str]:
    problems = [
        f"{name} has the type {values.dtype}: give integers or floats."
        for name, values in arrays.items()
        if values.dtype.kind not in "iuf"
    ]
    problems += [
        f"{name} has the shape {values.shape}: give an example in each row."
        for name, values in arrays.items()
        if values.ndim < (2 if name.startswith("x_") else 1)
    ]
    if problems:
        return problems
    for split in sorted({name.partition("_")[2] for name in arrays}):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if len(x) != len(y):
            problems.append(f"x_{split} has {len(x)} examples and y_{split} {len(y)} labels.")
        if len(x) < (2 if split == "train" else 1):
            problems.append(f"x_{split} has {len(x)} examples, too few.")
        if x.shape[1:] != arrays["x_train"].shape[1:] or x.dtype != arrays["x_train"].dtype:
            problems.append(f"x_{split} has other shapes or types than x_train.")
        for name, values in ((f"x_{split}", x), (f"y_{split}", y)):
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                problems.append(f"{name} has NaN or infinite values: clean them.")
        if x.dtype.kind == "i" and len(x) and x.min() < 0:
            problems.append(f"x_{split} has the token id {x.min()}: ids are 0 and above.")
    return problems or _problems_of_labels(arrays)


def _problems_of_labels(arrays: Arrays) -> list[str]:
    train = arrays["y_train"]
    problems = []
    for name in (name for name in arrays if name.startswith("y_")):
        labels = arrays[name]
        if labels.dtype != train.dtype or labels.shape[1:] != train.shape[1:]:
            problems.append(f"{name} has other shapes or types than y_train.")
        elif labels.dtype.kind == "i" and labels.ndim > 1:
            problems.append(f"{name} has {labels.ndim} dimensions: give one class per example.")
        elif labels.dtype.kind == "i" and not 0 <= labels.min() <= labels.max() <= train.max():
            wrong = labels.min() if labels.min() < 0 else labels.max()
            problems.append(
                f"{name} has the class {wrong}: classes are 0 to {train.max()}, those of y_train."
            )
    return problems


def _fingerprint(arrays: Arrays) -> str:
    """16 hex digits over names, shapes, types and contents."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {values.shape} {values.dtype}".encode() + b"\0")
        digest.update(hashlib.sha256(values.data).digest())
    return digest.hexdigest()[:16]
