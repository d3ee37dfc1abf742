"""Cells as a run names them, and the cells that a command would train."""

from __future__ import annotations

import functools
import itertools
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode

from multirun_analysis.runs.load import Frames, read_frames
from samsweep.config import AugmentConfig, CellConfig, Variant, conf_dir
from samsweep.hydra_config import Composer, register_resolvers
from samsweep.records.identity import cell_id
from samsweep.records.schema import Record

from . import conftest


def cell(
    variant: Variant, *, dataset: Mapping[str, Any] | None = None, **changes: Any
) -> CellConfig:
    """A cell of the digits setting, with the identity that ``conf/`` composes to."""
    used = {"augment": AugmentConfig(crop_padding=1, cutout_prob=None)}
    return conftest.cell(variant, dataset=used | dict(dataset or {}), **changes)


def frames(records: Iterable[Record]) -> Frames:
    """What is read of records that a run has written."""
    with TemporaryDirectory() as folder:
        for record in records:
            path = Path(folder) / "cells" / record.cell_id
            path.mkdir(parents=True)
            (path / "record.json").write_text(record.model_dump_json())
        return read_frames(folder)


def composed(commands: Iterable[str]) -> list[tuple[str, str]]:
    """Study and cell of every point of the commands' grids, without the duplicates of a grid."""
    return [found for command in commands for found in _points(command)]


def _points(command: str) -> list[tuple[str, str]]:
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "samsweep.run", "-m"]
    axes = [
        [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [override.input_line or ""]
        for override in OverridesParser.create().parse_overrides(words[4:])
    ]
    points = _composer().points(itertools.product(*axes))
    return list(dict.fromkeys((point.run.study, cell_id(point.run.cell)) for point in points))


@functools.cache
def _composer() -> Composer:
    """Our own, which a test of its own compares with Hydra's."""
    register_resolvers()
    GlobalHydra.instance().clear()
    path = create_config_search_path(str(conf_dir()))
    hydra = Hydra.create_main_hydra2(task_name="run", config_search_path=path)
    master = hydra.compose_config("config", [], run_mode=RunMode.MULTIRUN)
    GlobalHydra.instance().clear()
    return Composer(hydra.config_loader, master)
