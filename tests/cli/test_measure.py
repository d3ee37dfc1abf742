"""Trained cells are measured from their weights: which, once each, and nothing is trained."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import QUICK, compose_run, leave, point, records, run, start
from PIL import Image

from samsweep.cli import measure
from samsweep.records.identity import measurement_settings, wanted_measurements
from samsweep.records.provenance import provenance
from samsweep.records.schema import Measurement

GRID = ["-m", *QUICK, "opt=sgd,sam,samdirection", "rho=0.1,0.2", "study=demo"]
#: A measurement of a moment.
TOP5 = ["sharpness=top5", "sharpness.num_examples=50", "sharpness.max_hvps=3"]
HERE = ["study=demo", "num_threads=1"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept")
    run(folder, *GRID)
    return folder


@pytest.fixture
def trained(swept, tmp_path):
    """Five trained cells of study demo without a measurement."""
    shutil.copytree(swept / "multirun", tmp_path / "multirun")
    return tmp_path


def command(root, *arguments, **keys):
    return run(root, *arguments, module="samsweep.measure", **keys)


def cell(root, *overrides):
    return point(root, "study=demo", *QUICK, *overrides).folder


def names(root):
    """Names of the measurements of each cell, by the cell's variant and rho."""
    return {
        (r["identity"]["variant"]["name"], r["identity"]["variant"]["rho"]): sorted(
            m["name"] for m in r["measurements"].values()
        )
        for r in records(root)
    }


def edit(folder, **changes):
    record = json.loads(folder.record_file.read_text()) | changes
    folder.record_file.write_text(json.dumps(record))


# ------------------------------------------------------------------ measured, not trained


def test_all_cells_are_measured_and_none_is_trained(trained):
    def files():
        kept = ("weights*.safetensors", "history.jsonl", "config.yaml")
        return {f: f.read_bytes() for kind in kept for f in trained.rglob(kind)}

    files_before, before = files(), records(trained)
    assert len(files_before) == 5 * 4
    done = command(trained, *HERE, *TOP5)
    assert "5 cells: 5 only to measure." in done.stdout
    assert "Nothing is known yet of how long top5 takes." in done.stdout
    assert files() == files_before
    after = records(trained)
    for record in after:
        (measurement,) = record.pop("measurements").values()
        assert measurement["name"] == "top5"
        assert measurement["settings"]["num_examples"] == 50
        # The table's line of the cell.
        line = next(s for s in reversed(done.stdout.splitlines()) if record["cell_id"] in s)
        assert f"{measurement['result']['lambda_max']:.4g}" in line
    assert after == [{k: v for k, v in r.items() if k != "measurements"} for r in before]
    assert not list(trained.rglob("checkpoint*")) and not list(trained.rglob("lock.json"))


def test_what_is_there_is_not_measured_again(trained):
    """By this command, or by the sweep that asks for the same, and the other way round."""
    command(trained, *HERE, *TOP5, "opt=sgd")
    run(trained, *GRID[:-1], "study=demo", *TOP5, "opt=sam")
    before = {f: f.stat().st_mtime_ns for f in trained.rglob("*") if f.is_file()}
    done = command(trained, *HERE, *TOP5, "opt=sgd,sam")
    assert "3 cells: 3 already finished." in done.stdout
    assert "top5" in done.stdout
    assert {f: f.stat().st_mtime_ns for f in trained.rglob("*") if f.is_file()} == before
    assert "3 already finished" in run(trained, *GRID, *TOP5, "opt=sgd,sam").stdout


def test_filters_choose_the_cells(trained):
    chosen = [*HERE, *TOP5, "opt=sgd,sam", "rho=0.1", "model=resnet8", "seed=0"]
    before = {f: f.stat().st_mtime_ns for f in trained.rglob("*")}
    assert "2 cells: 2 only to measure." in command(trained, *chosen, "dry_run=true").stdout
    assert {f: f.stat().st_mtime_ns for f in trained.rglob("*")} == before
    command(trained, *chosen)
    assert names(trained) == {
        ("sgd", None): ["top5"],
        ("sam", 0.1): ["top5"],
        ("sam", 0.2): [],
        ("samdirection", 0.1): [],
        ("samdirection", 0.2): [],
    }


@pytest.mark.slow
def test_several_measures_and_settings_at_once(trained):
    asked = ["sharpness=lambda_max,top5", "sharpness.num_examples=40,50", "sharpness.max_hvps=3"]
    done = command(trained, *HERE, *asked, "opt=sgd")
    assert "1 cell of 4 points: 1 only to measure." in done.stdout
    assert names(trained)["sgd", None] == ["lambda_max", "lambda_max", "top5", "top5"]
    for label in ("lambda_max, 40 ", "lambda_max, 50 ", "top5, 40 ", "top5, 50 "):
        assert label in done.stdout
    assert "??" not in done.stdout


def test_cells_that_are_not_trained_are_left_alone(trained):
    edit(cell(trained, "opt=sam", "rho=0.1"), status="interrupted", metrics=None)
    edit(cell(trained, "opt=sam", "rho=0.2"), status="diverged", metrics=None)
    done = command(trained, *HERE, *TOP5, "opt=sgd,sam")
    assert "2 cells skipped: 1 diverged, 1 interrupted." in done.stdout
    assert names(trained)["sam", 0.1] == names(trained)["sam", 0.2] == []
    assert sorted(r["status"] for r in records(trained)).count("interrupted") == 1
    done = command(trained, *HERE, *TOP5, "opt=sam")
    assert "There is nothing to measure in study demo." in done.stdout


def test_a_cell_without_its_weights_is_told_and_the_others_are_measured(trained):
    broken = cell(trained, "opt=sam", "rho=0.1")
    content = broken.best_weights_file.read_bytes()
    broken.best_weights_file.unlink()
    asked = [*HERE, *TOP5, "sharpness.weights=best"]
    done = command(trained, *asked, check=False)
    assert done.returncode == 1
    assert "1 cell of study demo not finished: 1 not measured." in done.stdout + done.stderr
    assert f"{broken.best_weights_file} is missing" in done.stdout.replace("\n", "")
    assert "??" in done.stdout
    assert "weights-best.safetensors is missing" in broken.read().measuring_error
    found = names(trained)
    assert found.pop(("sam", 0.1)) == []
    assert list(found.values()) == [["top5"]] * 4
    broken.best_weights_file.write_bytes(content)
    again = run(trained, "study=demo", "--retry", module="samsweep.status").stdout
    assert "1 only to measure" in again
    assert names(trained)["sam", 0.1] == ["top5"]
    assert broken.read().measuring_error is None


def test_an_unreadable_record_shows_in_the_exit_status(trained):
    cell(trained, "opt=sam", "rho=0.1").record_file.write_text("{")
    done = command(trained, *HERE, *TOP5, "opt=sgd", check=False)
    assert done.returncode == 1
    assert "1 cell skipped: 1 unreadable" in done.stdout and "record.json" in done.stdout
    assert "1/1" in done.stdout


@pytest.mark.slow
def test_two_commands_at_once_measure_each_cell_once(trained):
    asked = [*HERE, "sharpness.num_examples=400", "sharpness=top5"]
    both = [start(trained, *asked, module="samsweep.measure") for _ in range(2)]
    outputs = [one.communicate()[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], outputs
    logs = [file.read_text() for file in trained.rglob("run.log")]
    assert [text.count("measuring top5") for text in logs] == [1] * 5
    assert all("??" not in out for out in outputs)


def test_private_settings_from_a_folder_of_ones_own(trained):
    private = trained / "mine/sharpness/quick.yaml"
    private.parent.mkdir(parents=True)
    private.write_text("defaults: [top5, _self_]\nnum_examples: 30\nmax_hvps: 3\n")
    command(trained, "sharpness=quick", "--config-dir", "mine", *HERE, "opt=sgd")
    (record,) = [r for r in records(trained) if r["measurements"]]
    (measurement,) = record["measurements"].values()
    assert measurement["settings"]["num_examples"] == 30


# ------------------------------------------------------------------ refused


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["study=dmo"], "study 'dmo' is unknown: did you mean 'demo'?"),
        (["hydra.sweep.dir=nowhere"], "nowhere/: train some cells with samsweep run."),
        ([], "study 'default' is unknown: choose one of demo."),
        (["study=demo", "opt=smm"], "opt=smm: no cell of study demo has it; choose among sam, sam"),
        (["study=demo", "rho=0.3"], "rho=0.3: no cell of study demo has it; choose among 0.1, 0.2"),
        (["--study", "demo"], "study=demo"),
        (["demo"], "study=demo"),
        (["study=demo", "eopchs=3"], "key 'eopchs' is unknown: did you mean 'epochs'?"),
        (
            ["study=demo", "dataset.noise=3"],
            "did you mean 'dataset.label_noise'",
        ),
        (["study=demo", "+rho=0.1"], "did you mean 'rho'?"),
        (["study=demo", "rho=interval(0,1)"], "rho=interval(0,1): list the values, with commas."),
        (["study=demo", "opt=["], "opt=[ cannot be read"),
        (["study=demo", "sharpness=top6"], "sharpness 'top6' is unknown: did you mean 'top5'?"),
        (["study=demo", "sharpness.max_hvp=3"], "did you mean 'sharpness.max_hvps'?"),
        (["study=demo", "sharpness.max_hvps=0"], "sharpness.max_hvps=0: should be greater"),
        (["study=demo", "sharpness=none"], "sharpness=none measures nothing: choose one of "),
        (["study=s1", "study=s2"], "study=s1 study=s2: give study once"),
        (["rho=0.1", "rho=0.2"], "rho=0.1 rho=0.2: give rho once, several values with commas."),
        (["study=demo,other"], "study=demo,other: give one value for all cells."),
        (
            ["study=demo", "keep_checkpoints=true"],
            "keep_checkpoints=true has no effect on measuring",
        ),
        (["study=demo", "hydra/sweeper=basic"], "hydra/sweeper=basic has no effect on measuring"),
        (["study=demo", "hydra.mode=RUN"], "hydra.mode=RUN has no effect on measuring"),
        (["+experiment=demo"], "study=NAME"),
        (["study=demo", "hydra/launcher=joblib"], "hydra/launcher=joblib cannot measure"),
        (["study=demo", "hydra.launcher.wokers=2"], "did you mean 'hydra.launcher.workers'?"),
        (["study=demo", "hydra.launcher.workers=0"], "hydra.launcher.workers=0: should be greater"),
        (["study=demo", "dataset.path=here"], "has no effect: none of these cells was trained on"),
        (
            ["study=demo", "--config-dir", "nowhere"],
            "--config-dir nowhere: there is no such folder.",
        ),
    ],
)
def test_what_cannot_be_measured_ends_in_one_sentence(
    swept, here, monkeypatch, capsys, arguments, sentence
):
    monkeypatch.chdir(swept)
    before = {f: f.stat().st_mtime_ns for f in swept.rglob("*")}
    with pytest.raises(SystemExit) as ended:
        measure.main(arguments)
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err
    assert {f: f.stat().st_mtime_ns for f in swept.rglob("*")} == before


def test_a_refusal_of_the_command_is_all_that_it_prints(swept):
    done = command(swept, "study=demo", "device=cuda:99", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    selecting, *told = done.stderr.splitlines()
    assert selecting == "selecting cells ..."
    assert len(told) == 1 and told[0].startswith("device=cuda:99: this machine has")


# ------------------------------------------------------------------ the plan, in this process


@pytest.fixture
def planned(here, tmp_path, monkeypatch):
    """Gives the plan that a command line makes, in a folder of its own."""
    plans = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measure, "execute", lambda plan, *_, **keys: plans.append(plan))

    def planned(*arguments):
        measure.main(list(arguments))
        return plans.pop()

    return planned


def test_examples_are_as_many_as_the_cells_own_data_set_has(planned):
    """As the sweep that trains such a cell counts them, so that neither repeats the other's."""
    cells = ("dataset=digits", "dataset=cifar100")
    folders = [leave(Path.cwd(), "study=demo", each) for each in cells]
    plan = planned("study=demo", "sharpness=top5")
    by_folder = {c.folder: c.run for c in plan.cells}
    for folder, each, number in zip(folders, cells, (898, 2048), strict=True):
        assert by_folder[folder].sharpness.num_examples == number
        asked = wanted_measurements(compose_run(each, "sharpness=top5").sharpness)
        assert wanted_measurements(by_folder[folder].sharpness) == asked


def test_how_and_where_it_runs_is_as_the_command_says(planned):
    folder = leave(Path.cwd(), "study=demo", "opt=sgd")
    how = ["device=cpu", "num_threads=3", "data_dir=there", "tracking=wandb"]
    (found,) = planned("study=demo", *how).cells
    assert found.folder == folder
    assert found.action == "measure"
    assert found.run.cell == folder.read().identity
    assert (found.run.device, found.run.num_threads) == ("cpu", 3)
    assert found.run.data_dir == Path("there").absolute()
    assert found.run.tracking.name == "wandb"


def test_the_studies_may_lie_elsewhere(planned, tmp_path):
    folder = leave(Path.cwd(), "study=demo", "opt=sgd")
    (tmp_path / "multirun").rename(tmp_path / "moved")
    (found,) = planned("study=demo", f"hydra.sweep.dir={tmp_path}/moved").cells
    assert found.folder.path.name == folder.path.name


def test_values_are_headlines_and_what_is_not_there_is_marked(planned, capsys):
    asked = compose_run("sharpness.measures=[top5,trace,landscape_1d]")
    results = (
        {"top5": {"lambda_max": 12.34567, "converged": True}, "landscape_1d": {"losses": [1.0]}},
        {"top5": {"lambda_max": 0.5, "converged": False}, "trace": {"trace": 3.0}},
    )
    cells = {}
    for seed, result in enumerate(results):
        taken = {
            key: Measurement(
                name=name,
                settings=measurement_settings(asked.sharpness, name),
                result=result[name],
                measured="now",
                provenance=provenance(device="cpu", num_threads=1),
            )
            for key, name in wanted_measurements(asked.sharpness).items()
            if name in result
        }
        cells[leave(Path.cwd(), "study=demo", f"seed={seed}", measurements=taken)] = [asked]
    measure._print_values(Path("multirun/demo"), cells)
    *lines, caption = capsys.readouterr().out.splitlines()
    told = [[word.strip() for word in line.split("|")[1:-1]] for line in lines[2:]]
    assert [(label.partition(",")[0], value) for label, _, value in told] == [
        ("landscape_1d", "measured"),
        ("landscape_1d", "??"),
        ("top5", "12.35"),
        ("top5", "0.5*"),
        ("trace", "??"),
        ("trace", "3"),
    ]
    assert [cell for _, cell, _ in told] == [folder.path.name for folder in cells] * 3
    assert caption.startswith("* not converged")


# ------------------------------------------------------------------ images of one's own


@pytest.fixture
def images(tmp_path):
    """A folder of images; the first of them is of this shade."""

    def make(name, shade=0):
        for split, number in (("train", 8), ("test", 1)):
            for label in ("cat", "dog"):
                folder = tmp_path / name / split / label
                folder.mkdir(parents=True)
                for i in range(number):
                    Image.new("RGB", (16, 16), (shade + i, 0, 0)).save(folder / f"{i}.png")
        return tmp_path / name

    return make


def test_images_of_ones_own_are_found_where_they_were_or_are_told(tmp_path, images):
    folder = images("first")
    config = ["dataset=image_folder", f"dataset.path={folder}", "batch_size=4", "epochs=1"]
    run(tmp_path, "-m", *QUICK[1:], *config, "opt=sgd", "study=demo")
    asked = ["sharpness=lambda_max", "sharpness.max_hvps=2", *HERE]
    command(tmp_path, *asked)
    assert names(tmp_path) == {("sgd", None): ["lambda_max"]}

    moved = folder.rename(tmp_path / "moved")
    done = command(tmp_path, *asked[1:], "sharpness=top5", check=False)
    assert done.returncode == 2
    assert f"dataset.path={folder} is not a folder" in done.stderr
    command(tmp_path, *asked[1:], "sharpness=top5", f"dataset.path={moved}", "dataset=image_folder")
    assert names(tmp_path) == {("sgd", None): ["lambda_max", "top5"]}

    other = images("other", shade=100)
    done = command(tmp_path, *asked, "sharpness.seed=1", f"dataset.path={other}", check=False)
    assert done.returncode == 2
    assert f"dataset.path={other} holds other images than resnet8-sgd-image_folder" in done.stderr


def test_images_that_no_launch_knows_of_are_asked_for(planned, images, capsys):
    leave(
        Path.cwd(),
        "study=demo",
        "dataset=image_folder",
        f"dataset.path={images('here')}",
        "batch_size=4",
    )
    with pytest.raises(SystemExit) as ended:
        planned("study=demo")
    assert ended.value.code == 2
    assert "dataset.path is missing" in capsys.readouterr().err
    (found,) = planned("study=demo", "dataset.path=here").cells
    assert found.run.data_path == Path("here").absolute()
    # Eight images of each class, a tenth of them set aside.
    assert found.run.sharpness.num_examples == 14
