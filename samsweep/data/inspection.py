"""What is known of data that say nothing of themselves: loaded once, in a process of its own.

The answer is kept in the user's cache folder by what the data set is made from, so that a plan
costs the loading once. Files that its arguments name count with their time of change.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from samsweep.config import ConfigError, DataInfo, DatasetComponent
from samsweep.config.factory import name_of
from samsweep.system.cache import cached_file, keep

#: Exit status with which the last line of the output is the sentences about what is wrong.
_REFUSED = 3


def inspected(component: DatasetComponent, name: str, values: Mapping[str, Any]) -> DataInfo:
    """What is known of a data set.

    Args:
        component: Which.
        name: What the configuration calls it.
        values: What its factory is given.

    Raises:
        ConfigError: If it cannot be loaded, or what it gives is no data set.
    """
    file = cached_file("datasets", f"{key_of(component, values)}.json")
    try:
        return _from_json(file.read_text())
    except (OSError, ValueError, TypeError, KeyError):
        text = _load_elsewhere(component, name, values)
    keep(file, text)
    return _from_json(text)


def forget(component: DatasetComponent, values: Mapping[str, Any]) -> None:
    """Let the next plan load a data set again, one whose files its arguments do not name."""
    cached_file("datasets", f"{key_of(component, values)}.json").unlink(missing_ok=True)


def _from_json(text: str) -> DataInfo:
    values = json.loads(text)
    shapes = {name: tuple(values[name]) for name in ("input_shape", "label_shape")}
    return DataInfo(**{**values, **shapes})


def key_of(component: DatasetComponent, values: Mapping[str, Any]) -> str:
    """What a data set is made from: factory, source, arguments, and the files that these name."""
    files = {
        key: [path.stat().st_mtime_ns, path.stat().st_size]
        for key, value in values.items()
        if isinstance(value, str | Path) and (path := Path(value)).is_file()
    }
    described = [
        name_of(component.factory),
        component.source,
        {k: str(v) for k, v in values.items()},
        files,
    ]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:20]


def _load_elsewhere(component: DatasetComponent, name: str, values: Mapping[str, Any]) -> str:
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "samsweep.data.inspection",
            name_of(component.factory),
            name,
            json.dumps(plain),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    if done.returncode == _REFUSED:
        raise ConfigError(*json.loads(done.stdout.splitlines()[-1]))
    if done.returncode:
        # It died of something that no exception tells.
        *_, reason = done.stderr.strip().splitlines() or ["no reason given"]
        raise ConfigError(reason)
    return done.stdout.splitlines()[-1]


def _main(factory: str, name: str, values: str) -> None:
    from samsweep.config.factory import load_factory
    from samsweep.data.arrays import info_of
    from samsweep.data.load import raw_arrays

    info = info_of(raw_arrays(load_factory(factory), name, json.loads(values), data_dir=None))
    print(json.dumps(dataclasses.asdict(info)))


def _refuse(*problems: str) -> NoReturn:
    print(json.dumps(problems))
    sys.exit(_REFUSED)


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:])
    except ConfigError as error:
        _refuse(*error.problems)
    except Exception as error:
        reason = " ".join(str(error).split())
        _refuse(f"dataset={sys.argv[2]} raised {type(error).__name__}: {reason}")
