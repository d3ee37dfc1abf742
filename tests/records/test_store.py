"""A cell's folder: whole files, or none."""

import errno
import json
import math
import os
from pathlib import Path

import pytest
from helpers import compose_run, make_folder

from samsweep.records.schema import SCHEMA_VERSION, Attempt, Metrics, Provenance, Record
from samsweep.records.store import CellFolder, NewerRecord, RecordError, atomic_path, write_text


@pytest.fixture
def folder(tmp_path):
    return CellFolder(make_folder(tmp_path))


def metrics(**changes):
    return Metrics(
        **{
            "test_accuracy": 90.0,
            "test_loss": 0.5,
            "val_accuracy": 91.0,
            "val_loss": 0.4,
            "train_accuracy": 70.0,
            "train_loss": 1.0,
            "best_epoch": 3,
            "best_val_accuracy": 92.0,
            "best_test_accuracy": 90.5,
            "best_test_loss": 0.45,
            "weight_norm": 20.0,
            **changes,
        }
    )


def attempt(seconds):
    return Attempt(
        started="2026-01-01T00:00:00+00:00",
        seconds=seconds,
        provenance=Provenance(
            host="here",
            device="cpu",
            num_threads=1,
            git_commit=None,
            git_dirty=None,
            versions={},
            command="run",
        ),
    )


def test_a_record_comes_back_as_it_was(folder):
    """Also numbers that JSON lacks."""
    record = Record.planned(compose_run("opt=samdirection")).model_copy(
        update={
            "status": "complete",
            "metrics": metrics(test_loss=math.inf, val_loss=-math.inf),
            "attempts": (attempt(3.0),),
        }
    )
    folder.write(record)
    assert folder.read() == record


@pytest.mark.parametrize("metric", [None, "mine.auc"])
@pytest.mark.parametrize("name", ["test_accuracy", "val_loss", "weight_norm"])
def test_a_complete_cell_has_its_numbers(folder, metric, name):
    """A metric of one's own may be undefined on a split, such as an AUC of one class."""
    record = Record.planned(compose_run())
    recipe = record.identity.recipe.model_copy(update={"metric": metric})
    identity = record.identity.model_copy(update={"recipe": recipe})
    broken = {"status": "complete", "metrics": metrics(**{name: math.nan}), "identity": identity}
    folder.write(record.model_copy(update=broken))
    if metric and name == "test_accuracy":
        assert math.isnan(folder.read().metrics.test_accuracy)
    else:
        with pytest.raises(RecordError, match=f"complete cell whose {name} is NaN"):
            folder.read()


def test_no_record_is_none(folder):
    assert folder.read() is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"schema_version": 1}', b'"pickle"']
)
def test_what_is_no_record_is_told_with_its_file(folder, content):
    folder.record_file.write_bytes(content)
    with pytest.raises(RecordError, match="record.json: "):
        folder.read()


def test_a_record_of_a_newer_schema_is_refused(folder):
    text = Record.planned(compose_run()).model_dump_json()
    newer = f'"schema_version":{SCHEMA_VERSION + 1}'
    folder.record_file.write_text(text.replace(f'"schema_version":{SCHEMA_VERSION}', newer))
    with pytest.raises(NewerRecord, match=f"form {SCHEMA_VERSION + 1}, which a newer samsweep"):
        folder.read()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "file.txt"
    write_text(file, "old")
    with pytest.raises(RuntimeError, match="disk"), atomic_path(file) as temporary:
        temporary.write_text("half")
        raise RuntimeError("disk full")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_temporary_files_of_a_killed_writer_is_removed(folder):
    writer = atomic_path(folder.checkpoint_file)
    writer.__enter__().write_text("half")
    folder.record_file.write_text("{}")
    assert len(os.listdir(folder.path)) == 2
    folder.remove_temporary_files()
    assert os.listdir(folder.path) == ["record.json"]


def test_history_turns_what_json_lacks_into_null(folder):
    rows = [{"epoch": 1, "train_loss": math.nan, "layers": {"fc": math.inf}, "list": [1.5]}]
    folder.write_history(rows)
    assert folder.read_history() == [
        {"epoch": 1, "train_loss": None, "layers": {"fc": None}, "list": [1.5]}
    ]


@pytest.mark.parametrize(
    ("damaged", "whole"),
    [
        (b'{"epoch": 1}\n{"epo', 1),
        (b'{"epoch": 1}\n{"epoch": 2}\n\0\0\0\0', 2),
        (b'{"epoch": 1}\n{}\n{"epoch": 3}\n', 1),
        (b'{"epoch": 1}\n{"epoch": 3}\n', 1),
        (b'{"epoch": true}\n', 0),
        (b"[1]\n", 0),
        (b"\xff\xfe\n", 0),
        (b"", 0),
    ],
)
def test_of_a_damaged_history_the_whole_lines_are_left(folder, damaged, whole, caplog):
    folder.history_file.write_bytes(damaged)
    assert folder.read_history() == [{"epoch": epoch + 1} for epoch in range(whole)]
    assert (f"line {whole + 1} is not of epoch" in caplog.text) == bool(damaged)


def test_config_is_frozen_once(folder):
    folder.freeze_config(compose_run().cell)
    before = folder.config_file.read_text()
    folder.freeze_config(compose_run("rho=0.4").cell)
    assert folder.config_file.read_text() == before
    assert "name: resnet8" in before


def test_seconds_add_up_over_attempts():
    record = Record.planned(compose_run()).model_copy(
        update={"attempts": (attempt(3.0), attempt(None), attempt(4.5))}
    )
    assert record.seconds == 7.5


def test_unknown_fields_of_a_later_minor_version_are_passed_over():
    values = Record.planned(compose_run()).model_dump(mode="json") | {"later": 1}
    assert Record.model_validate_json(json.dumps(values)).status == "planned"


def test_what_cannot_be_written_is_named(tmp_path, monkeypatch):
    """A disk that is full in the middle of a file does not say of which."""

    def full(*args, **keys):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_text(tmp_path / "record.json", "{}")
    assert caught.value.filename == str(tmp_path / "record.json")
    assert not list(tmp_path.iterdir())
