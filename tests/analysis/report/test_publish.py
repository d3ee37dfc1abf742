"""Tables to Weights & Biases: an offline run, read back from its files."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from multirun_analysis.__main__ import main
from multirun_analysis.study import open_study
from multirun_analysis.tables.study_pages import effect_pages, study_pages

from ..conftest import Study, cell, variant

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

_BLOCK, _HEADER = 32_768, 7


def _chunks(content: bytes) -> Iterator[bytes]:
    """The records of W&B's file: LevelDB's log format after a header of seven bytes."""
    position, parts = _HEADER, b""
    while position + _HEADER <= len(content):
        if _BLOCK - position % _BLOCK < _HEADER:
            position += _BLOCK - position % _BLOCK
            continue
        length, kind = struct.unpack("<HB", content[position + 4 : position + _HEADER])
        parts += content[position + _HEADER : position + _HEADER + length]
        position += _HEADER + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def _records(folder: Path) -> list[Any]:
    """The records of the one offline run, once its last one is written."""
    from wandb.proto.wandb_internal_pb2 import Record

    [file] = folder.glob("wandb/offline-run-*/*.wandb")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        records = [Record.FromString(chunk) for chunk in _chunks(file.read_bytes())]
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        time.sleep(0.1)
    raise TimeoutError(f"{file} has no end")


def _read_back(folder: Path) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The run, what was logged, and the summary."""
    records = _records(folder)
    [run, *_] = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    logged: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    for record in records:
        for items, target in ((record.history.item, logged), (record.summary.update, summary)):
            for item in items:
                name, *inner = item.nested_key or [item.key]
                value = json.loads(item.value_json)
                target[name] = {**target.get(name, {}), inner[0]: value} if inner else value
    return run, logged, summary


@pytest.mark.slow
def test_an_offline_run_has_tables_html_and_figures(
    small_grid: Study,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    small_grid.add(cell(variant("sam", 0.1), seed=1, model="resnet20"), 95.0)
    out = tmp_path / "out"
    arguments = [f"root={root}", f"out={out}", "--quiet"]
    assert main([*arguments, "--wandb", "wandb_project=mine"]) == 0
    assert "wandb sync" in capsys.readouterr().out

    run, logged, summary = _read_back(out / "default")
    assert (run.display_name, run.project, run.job_type) == ("default", "mine", "tables")
    study = open_study("default", root)
    pages = [*study_pages(study), *effect_pages(study)]
    drawn = sorted(file.stem for file in (out / "default").glob("*.png"))
    assert "accuracy_rho" in drawn
    assert {key for key in logged if not key.startswith("_")} == {
        *(f"figures/{name}" for name in drawn),
        *(f"{page.name}/html" for page in pages),
        *(f"{page.name}/data" for page in pages),
    }
    assert summary["complete"] == 7 and summary["diverged"] == 1

    [files] = (out / "default").glob("wandb/offline-run-*/files")
    table = json.loads((files / logged["accuracy/data"]["path"]).read_text())
    accuracy = pages[0].data
    assert table["columns"] == list(accuracy.columns)
    means = [row[table["columns"].index("mean")] for row in table["data"]]
    assert means == [None if mean != mean else mean for mean in accuracy["mean"]]
    html = (files / logged["accuracy/html"]["path"]).read_text()
    assert "<td>SAMDIRECTION</td>" in html
    with Image.open(out / "default" / f"{drawn[0]}.png") as image:
        size = logged[f"figures/{drawn[0]}"]
        assert (size["width"], size["height"]) == image.size


def test_a_refusal_is_told_in_one_sentence(
    small_grid: Study,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import wandb

    def refuse(**_: Any) -> None:
        raise wandb.errors.UsageError("api_key not configured (no-tty).")

    monkeypatch.setattr(wandb, "init", refuse)
    arguments = [f"root={root}", f"out={tmp_path}", "--quiet", "wandb=online"]
    assert main(arguments) == 1
    assert "W&B did not take the tables: api_key not configured" in capsys.readouterr().err
    assert (tmp_path / "default" / "accuracy.md").exists()
