"""Studies with files that are broken, foreign or made to do harm: the rest must go on."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from multirun_analysis import load_history, load_measurements, load_runs
from multirun_analysis.__main__ import main
from multirun_analysis.runs import reading
from multirun_analysis.runs.columns import HISTORY_COLUMNS

from ..conftest import Study, cell, dtypes, measurement, variant

#: What nobody may ever call.
EVIL = "<script>alert(1)</script>|`$(touch pwned)`\\input{/etc/passwd}%&_#{0.__class__}\x1b[2J\n# x"


class Bomb:
    """Whoever unpickles this leaves a file behind."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


def _changed(study: Study, seed: int, change: Callable[[dict[str, Any]], object]) -> Path:
    """A record as a run writes it, with a change."""
    record = study.add(cell(variant("sam", 0.1), seed=seed), 90.0, measurement(50.0))
    file = study.cell_folder(record) / "record.json"
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))
    return file


@pytest.fixture
def good(study: Study) -> Study:
    """A study with one cell as it should be."""
    record = study.add(cell(variant("sgd")), 92.4, measurement(100.0))
    study.add_history(record, [{"train_loss": 1.0}])
    return study


def _skipped(study: Study) -> list[tuple[str, str]]:
    """What loading the runs skips, while the good cell is read."""
    runs = load_runs(study.folder)
    assert runs["test_accuracy"].tolist() == [92.4]
    return [(Path(file).parent.name, reason) for file, reason in runs.attrs["skipped"]]


# --------------------------------------------------------------------------- records


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a":' * 100_000, "recursion limit"),
        (b"[" * 3_000_000, "recursion limit"),
        (b'{"schema_version": 1' + b"0" * 5_000 + b"}", "out of range"),
        (b"\x00" * 1000, "Invalid JSON"),
        (b"\xff\xfe{\x00}\x00", "Invalid JSON"),
        (b'{"cell_id": "\\ud800"}', "Invalid JSON"),
        (b"key: &a [*a, *a]", "Invalid JSON"),
        (b"", "EOF while parsing"),
        (b'{"schema_version": 99}', "schema_version"),
        (b"[]", "object"),
        (pickle.dumps(print), "Invalid JSON"),
        (b"null", "object"),
        (b"NaN", "object"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value[:12]),
)
def test_what_is_no_record_is_skipped(good: Study, content: bytes, reason: str) -> None:
    good.plant("bad", content)
    [(name, said)] = _skipped(good)
    assert name == "bad" and reason in said


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda record: record.pop("identity"), "identity: Field required"),
        (lambda record: record["identity"].pop("recipe"), "identity.recipe: Field required"),
        (lambda record: record.pop("results_version"), "results_version"),
        (lambda record: record.update(status="great"), "status"),
        (lambda record: record.update(cell_id="../../etc"), "named after it"),
        (lambda record: record["identity"]["recipe"].update(epochs=10**30), "epochs"),
        (lambda record: record.update(results_version=10**300), "results_version"),
        (lambda record: record["metrics"].update(best_epoch=-(2**70)), "best_epoch"),
        (lambda record: record["progress"].update(epoch=2**64), "epochs_done"),
        (lambda record: record["metrics"].update(test_accuracy="high"), "test_accuracy"),
    ],
)
def test_a_record_of_another_form_is_skipped(
    good: Study, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    _changed(good, 1, change)
    [(_, said)] = _skipped(good)
    assert reason in said


def test_a_record_too_large_is_not_read(good: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    file = good.plant("huge")
    with file.open("r+b") as opened:
        opened.truncate(3 * 2**40)  # sparse: it takes no space
    [(name, reason)] = _skipped(good)
    assert name == "huge" and reason == "3,145,728 MiB, where at most 4 are read"


def test_an_infinite_loss_is_one(good: Study) -> None:
    _changed(good, 1, lambda r: r["metrics"].update(test_loss="Infinity"))
    assert load_runs(good.folder).set_index("seed").loc[1, "test_loss"] == float("inf")


def test_a_complete_cell_without_its_numbers_is_skipped(good: Study) -> None:
    _changed(good, 1, lambda r: r["metrics"].update(test_accuracy="NaN"))
    [(_, reason)] = _skipped(good)
    assert "a complete cell whose test_accuracy is NaN" in reason


@pytest.mark.parametrize(
    "result",
    [
        {"lambda_max": 10**400, "num_hvps": 10**400, "eigenvalues": [10**400, "x", None]},
        {"lambda_max": {"a": 1}, "errors": {"b": 2}, "eigenvalues": {"c": 3}},
        {"lambda_max": [1], "errors": "many", "eigenvalues": "none", "converged": "yes"},
        {},
    ],
)
def test_a_result_of_another_form_has_no_numbers(good: Study, result: dict[str, Any]) -> None:
    _changed(good, 1, lambda r: next(iter(r["measurements"].values())).update(result=result))
    measured = load_measurements(good.folder).set_index("seed")
    assert measured.loc[[0], "lambda_max"].tolist() == [100.0]
    assert measured.loc[[1], ["lambda_max", "value", "error", "num_hvps"]].isna().all(axis=None)


@pytest.mark.parametrize(
    "settings",
    [
        {"{0.__class__.__mro__}": 1},
        {"{": 1, "}": 2, "{x}": 3},
        {"weights": "{weights}", "other": "{0}"},
        {"num_examples": 10**400, "tolerance": [1] * 10_000},
        {EVIL: EVIL},
        {"name": "another"},
        {"worst_case": {"{0.__class__}": {"a": [1]}, "rho_l2": {"b": 1}}, "worst_case.rho_l2": 3},
        {"trace": {EVIL: {EVIL: EVIL}}, f"trace.{EVIL}": 1},
    ],
)
def test_settings_are_no_templates(good: Study, settings: dict[str, Any]) -> None:
    _changed(good, 1, lambda r: next(iter(r["measurements"].values())).update(settings=settings))
    labels = load_measurements(good.folder)["settings_label"]
    assert labels.is_unique
    assert labels.str.len().max() < 1000 and "class '" not in "".join(labels)


def test_settings_with_nan_are_skipped(good: Study) -> None:
    def change(record: dict[str, Any]) -> None:
        next(iter(record["measurements"].values()))["settings"]["tolerance"] = float("nan")

    _changed(good, 1, change)
    measured = load_measurements(good.folder)
    assert measured["seed"].tolist() == [0]
    assert "not JSON compliant" in measured.attrs["skipped"][0].reason


# --------------------------------------------------------------------------- paths


def test_links_are_not_followed(good: Study, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    secret = outside / "record.json"
    secret.write_text("{}")
    cells = good.folder / "cells"
    (cells / "linked-folder").symlink_to(outside)
    (cells / "up").symlink_to("..")
    (cells / "linked-file").mkdir()
    (cells / "linked-file" / "record.json").symlink_to(secret)
    (cells / "dangling").symlink_to("nowhere")
    skipped = load_runs(good.folder).attrs["skipped"]
    assert len(skipped) == 4
    assert all("link, which may lead out of the study" in reason for _, reason in skipped)


def test_cells_that_are_a_link_are_not_read(root: Path, good: Study) -> None:
    (root / "other").mkdir()
    (root / "other" / "cells").symlink_to(good.folder / "cells")
    runs = load_runs(root / "other")
    assert runs.empty and "link" in runs.attrs["skipped"][0].reason


def test_a_study_may_itself_be_a_link(root: Path, good: Study) -> None:
    (root / "linked").symlink_to(good.folder)
    assert len(load_runs(root / "linked")) == 1


def test_nobody_waits_for_a_pipe(good: Study) -> None:
    for name in ("record.json", "history.jsonl"):
        folder = good.folder / "cells" / f"pipe-{name}"
        folder.mkdir()
        os.mkfifo(folder / name)
    assert _skipped(good) == [("pipe-record.json", "not a regular file")]
    assert "not a regular file" in load_history(good.folder).attrs["skipped"][0].reason


def test_a_folder_in_place_of_a_file_is_skipped(good: Study) -> None:
    (good.folder / "cells" / "odd" / "record.json").mkdir(parents=True)
    [(name, reason)] = _skipped(good)
    assert name == "odd" and reason


def test_a_name_that_no_terminal_should_see_is_written_out(good: Study) -> None:
    name = b"a\xff\x1b[2J\n"
    os.mkdir(os.path.join(os.fsencode(good.folder / "cells"), name))
    with open(os.path.join(os.fsencode(good.folder / "cells"), name, b"record.json"), "w") as file:
        file.write("{")
    [skipped] = load_runs(good.folder).attrs["skipped"]
    assert skipped.file.isprintable() and skipped.file.encode()


def test_files_beside_the_records_are_left_alone(good: Study, tmp_path: Path) -> None:
    pwned = tmp_path / "pwned"
    folder = good.cell_folder(good.written[0])
    for name in ("record.pkl", "checkpoint.pt", "config.pickle", "weights.safetensors"):
        (folder / name).write_bytes(pickle.dumps(Bomb(pwned)))
    laughs = ["a0: &a0 [lol, lol]"]
    laughs += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20)]
    laughs += [f"x: !!python/object/apply:os.system ['touch {pwned}']"]
    (folder / "config.yaml").write_text("\n".join(laughs))
    (folder / "conftest.py").write_text(f"open({str(pwned)!r}, 'w')")
    assert _skipped(good) == []
    assert load_history(good.folder)["train_loss"].tolist() == [1.0]
    assert not pwned.exists()


# --------------------------------------------------------------------------- histories


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"epoch": 2, "train_lo', "EOF"),
        ("[" * 100_000, "recursion limit"),
        ("[1, 2]", "not a mapping"),
        ('{"train_loss": 1.0}', "no epoch"),
        ('{"epoch": 1e300}', "no epoch"),
        ('{"epoch": 0}', "no epoch"),
        ('{"epoch": 1.5}', "no epoch"),
        ('{"epoch": true}', "no epoch"),
        ('{"epoch": {"a": 1}}', "no epoch"),
        (json.dumps({"epoch": 2, **{f"x{n}": 1.0 for n in range(5000)}}), "different names"),
    ],
)
def test_a_bad_line_is_skipped(good: Study, line: str, reason: str) -> None:
    with (good.cell_folder(good.written[0]) / "history.jsonl").open("a") as file:
        file.write(line + '\n{"epoch": 3, "train_loss": 0.5}\n')
    history = load_history(good.folder)
    assert history["epoch"].tolist() == [1, 3] and history["train_loss"].tolist() == [1.0, 0.5]
    [skipped] = history.attrs["skipped"]
    assert "line 2: " in skipped.reason and reason in skipped.reason


def test_a_history_holds_numbers_alone(good: Study) -> None:
    row = {"epoch": 1, "cell_id": "other", "lr": "high", "cosine": [1], "sam_gap": 10**400}
    record = good.add(cell(variant("sam", 0.1)), 90.0)
    file = good.add_history(record, [{"val_loss": 1.0}])
    file.write_text(json.dumps(row) + "\n")
    history = load_history(good.folder)
    assert set(history["cell_id"]) == {written.cell_id for written in good.written}
    assert history[["lr", "cosine", "sam_gap"]].isna().all(axis=None)
    assert dtypes(history) == dict(HISTORY_COLUMNS)


def test_a_history_too_large_is_not_read(good: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_HISTORY", 2**20)
    record = good.add(cell(variant("sam", 0.1)), 90.0)
    good.add_history(record, [{"lr": 0.5}])
    with (good.cell_folder(record) / "history.jsonl").open("r+b") as file:
        file.truncate(2**31)
    history = load_history(good.folder)
    assert len(history) == 1
    assert "2,048 MiB" in history.attrs["skipped"][0].reason


# --------------------------------------------------------------------------- the whole command


def test_evil_names_reach_every_format_and_do_nothing(
    good: Study,
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    def change(record: dict[str, Any]) -> None:
        record.update(formula=f"={EVIL}", error=EVIL, status="failed", metrics=None)
        [measured] = record["measurements"].values()
        measured["settings"] = {**measured["settings"], "weights": EVIL, EVIL: 1}
        measured["name"] = EVIL
        record["measurements"] = {EVIL: measured}

    _changed(good, 1, change)
    good.add(cell(variant("sgdhess", 1.0)), 91.0, measurement(3.0, name=EVIL, weights=EVIL))
    arguments = [f"root={root}", "out=out", "export=frames"]
    assert main([*arguments, "reference=empirical_sam"]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and "<script" not in printed and "\n# x" not in printed
    files: dict[str, list[str]] = {}
    for path in sorted(Path("out/default").iterdir()):
        files.setdefault(path.suffix, []).append(path.read_text(encoding="utf-8"))
    shown = [*files[".html"], *files[".md"], *files[".tex"]]
    assert not any("\x1b" in text for text in shown)
    assert not any("<script" in text for text in files[".html"] + files[".md"])
    assert any("&lt;script&gt;alert" in text for text in files[".html"])
    assert not any(r"\input{/etc" in text for text in files[".tex"])
    formulas = pd.read_csv("out/default/accuracy.csv")["formula"]
    assert not formulas.str.startswith("=").any() and formulas.str.startswith("'=").any()
    assert not list(tmp_path.rglob("pwned"))
