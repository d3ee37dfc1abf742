"""The keys of ``samsweep measure``: which cells, and what is measured of them and how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pydantic_core import PydanticUndefined

from samsweep.config import Key, Options, described
from samsweep.sweep.select import KEYS

#: Where the images of an image_folder lie; no part of what is trained, hence no filter.
PATH = "dataset.path"
#: Keys of Options that are overrides here; of sharpness, several values may be given.
SETTINGS = (
    *("sharpness", "tracking", "study", "device", "num_threads", "data_dir", "dry_run"),
    *("fail_fast", "detach", "on_code_change", "plugins"),
)


def filters() -> Iterator[Key]:
    """The keys that choose among the cells, by the values with which they were trained."""
    for key in described(Options):
        if key.name in KEYS:
            values = key.values or KEYS[key.name].values
            yield replace(key, values=values, default=PydanticUndefined)


def measured_settings() -> Iterator[Key]:
    """The other keys, those of Options among them that measuring takes."""
    return (key for key in described(Options) if key.name.partition(".")[0] in SETTINGS)
