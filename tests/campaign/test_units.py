"""Which unit comes next, how long it may be, and what is collected."""

import json
import tarfile
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from helpers import compose_run

from campaign import unit as running
from campaign.collect import collect
from campaign.rehearse import MOST_BYTES, rehearse
from campaign.units import ROOT, Campaign, CampaignError, slug
from samsweep.records.provenance import now, provenance
from samsweep.records.schema import Attempt, Metrics, Progress, Record
from samsweep.records.store import CellFolder

HERE = provenance(device="cpu (made up)", num_threads=1)
METRICS = Metrics(
    **dict.fromkeys(("test_accuracy", "val_accuracy", "train_accuracy"), 50.0),
    **dict.fromkeys(("test_loss", "val_loss", "train_loss"), 1.0),
    **dict.fromkeys(("best_val_accuracy", "best_test_accuracy"), 50.0),
    best_epoch=1,
    best_test_loss=1.0,
    weight_norm=1.0,
)


@pytest.fixture
def campaign(tmp_path):
    return Campaign(
        experiment="cifar100",
        study="trial",
        dataset=Path("data/none"),
        fingerprint=None,
        results=tmp_path / "results",
        most_epochs=200,
        measuring_minutes=1.0,
        measurements=0,
        overrides=(),
        units=("opt=sam", "opt=sgd"),
    )


def archive(folder, unit, *, status="complete", epochs=3, study="trial"):
    """What a unit brings home."""
    config = compose_run(unit, f"study={study}", f"epochs={epochs}")
    progress = Progress(
        epoch=2,
        num_epochs=epochs,
        steps_per_epoch=7,
        train_loss=1.0,
        val_accuracy=50.0,
        updated="x",
    )
    record = Record.planned(config).model_copy(
        update={
            "status": status,
            "metrics": METRICS if status == "complete" else None,
            "progress": progress,
            "attempts": (Attempt(started=now(), provenance=HERE),),
        }
    )
    cell = CellFolder(folder / record.cell_id)
    cell.path.mkdir(parents=True)
    cell.write(record)
    cell.write_history([{"epoch": 1, "train_loss": 1.0, "val_accuracy": 50.0}])
    about = {"unit": unit, "epochs": epochs, "minutes": 1.0, "phases": {"trained": 1.0}}
    running.HOME.mkdir(exist_ok=True)
    return running._pack(cell, about)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "HOME", tmp_path / "home")


def test_the_committed_campaigns_can_be_read_and_their_units_composed():
    for name in ("units", "rehearsal"):
        campaign = Campaign.read(ROOT / f"campaign/{name}.yaml")
        ids = set()
        for unit in campaign.units:
            # The images are not part of the repository.
            settings = ["model=resnet18", "dataset=cifar100", "rho=0.2", "precision=bfloat16"]
            run = compose_run(*settings, "seed=42", *unit.split())
            ids.add(run.cell.model_dump_json())
        assert len(ids) == len(campaign.units)


def test_an_unknown_key_of_a_campaign_is_named(tmp_path):
    text = (ROOT / "campaign/rehearsal.yaml").read_text()
    (tmp_path / "odd.yaml").write_text(f"{text}\nunitz: []\n")
    with pytest.raises(CampaignError, match=r"odd\.yaml: unitz"):
        Campaign.read(tmp_path / "odd.yaml")


def test_units_come_in_order_until_all_are_done(campaign):
    assert campaign.next_unit() == "opt=sam"
    campaign.results_folder.mkdir()
    campaign.mark_done({"unit": "opt=sam", "epochs": 7})
    assert campaign.next_unit() == "opt=sgd"
    assert campaign.common_epochs() == 7
    campaign.mark_done({"unit": "opt=sgd", "epochs": 7})
    with pytest.raises(CampaignError, match="All 2 units are done"):
        campaign.next_unit()


def test_files_of_units_differ_and_can_be_named_anywhere():
    units = Campaign.read(ROOT / "campaign/units.yaml").units
    names = [slug(unit) for unit in units]
    assert len(set(names)) == len(units)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-") for name in names)


@pytest.fixture
def epochs_that_fit(campaign, monkeypatch, tmp_path):
    """How many, in so many seconds, after two epochs of 99 s and of ``epoch_s``."""

    def fit(seconds, epoch_s):
        timed = CellFolder(tmp_path)
        timed.write_history([{"epoch": 1, "seconds": 99.0}, {"epoch": 2, "seconds": epoch_s}])
        monkeypatch.setattr(running, "_sweep", lambda *_, **__: None)
        monkeypatch.setattr(running, "_find_cell", lambda *_: (timed, None))
        monkeypatch.setattr(running.Phases, "phase", lambda *_: nullcontext())
        phases = running.Phases(time.monotonic() + seconds, {"epochs timed": epoch_s + 99 + 10})
        return running._epochs_that_fit(campaign, "opt=sam", phases)

    return fit


@pytest.mark.parametrize(("epoch_s", "epochs"), [(2.0, 200), (4.0, 119), (450.0, 1)])
def test_as_many_epochs_as_fit_beside_measuring(epochs_that_fit, epoch_s, epochs):
    # 10 minutes, less 30 s for the ending, a minute for measuring, and 10 s around the epochs.
    assert epochs_that_fit(600.9, epoch_s) == epochs


def test_too_little_time_for_an_epoch_is_said(epochs_that_fit):
    with pytest.raises(CampaignError, match="give more minutes"):
        epochs_that_fit(100, 99.0)


def test_part_of_the_images_is_refused(campaign, monkeypatch, tmp_path):
    from PIL import Image

    for part in ("train", "test"):
        (tmp_path / part / "a").mkdir(parents=True)
        for index in range(2):
            Image.new("RGB", (32, 32)).save(tmp_path / part / "a" / f"{index}.bmp")
    whole = campaign.model_copy(update={"dataset": tmp_path, "fingerprint": "6574d657b380faf2"})
    with pytest.raises(CampaignError, match=r"2 \+ 2 images.*unpack all archives"):
        running.run_unit(whole, "opt=sam", 1.0)


def test_a_unit_without_its_measurements_is_not_done(campaign, tmp_path, capsys):
    measuring = campaign.model_copy(update={"measurements": 4})
    collect(measuring, [archive(tmp_path, "opt=sam")])
    assert "with 0 of 4 measurements" in capsys.readouterr().out
    assert campaign.done() == []


def test_the_number_of_epochs_is_chosen_once(monkeypatch, tmp_path):
    monkeypatch.setattr(running, "ROOT", tmp_path)
    assert running._epochs_begun("opt=sam") is None
    running._epochs_file("opt=sam").parent.mkdir(parents=True)
    running._epochs_file("opt=sam").write_text("120")
    assert running._epochs_begun("opt=sam") == 120


@pytest.mark.slow  # makes the report twice
def test_finished_units_are_added_one_after_the_other(campaign, tmp_path):
    collect(campaign, [archive(tmp_path / "a", "opt=sam")])
    collect(campaign, [archive(tmp_path / "b", "opt=sgd", status="diverged")])
    assert [(e["unit"], e["status"]) for e in campaign.done()] == [
        ("opt=sam", "complete"),
        ("opt=sgd", "diverged"),
    ]
    with tarfile.open(campaign.results_folder / "records.tar.xz") as tar:
        names = [Path(name).name for name in tar.getnames()]
    assert names.count("record.json") == names.count("history.jsonl") == 2
    assert "SAM" in (campaign.results_folder / "accuracy.md").read_text()
    assert (campaign.results_folder / "report.html").exists()


def test_an_unfinished_unit_is_told_of_and_left_out(campaign, tmp_path, capsys):
    collect(campaign, [archive(tmp_path, "opt=sam", status="interrupted")])
    assert "interrupted after 2 of 3 epochs in 1.0 minutes" in capsys.readouterr().out
    assert campaign.done() == []


def test_cells_of_other_lengths_are_refused(campaign, tmp_path):
    campaign.results_folder.mkdir()
    campaign.mark_done({"unit": "opt=sam", "epochs": 3})
    with pytest.raises(CampaignError, match="4 epochs where the units that are done have 3"):
        collect(campaign, [archive(tmp_path / "b", "opt=sgd", epochs=4)])


@pytest.mark.parametrize(("unit", "study"), [("opt=sam", "other"), ("opt=asam", "trial")])
def test_units_of_another_campaign_are_refused(campaign, tmp_path, unit, study):
    with pytest.raises(CampaignError, match="no unit of study trial"):
        collect(campaign, [archive(tmp_path, unit, study=study)])


def test_what_is_no_unit_is_refused(campaign, tmp_path):
    for name, content in (("text", b"text"), ("empty.tar.xz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CampaignError, match="is no unit of a campaign"):
            collect(campaign, [tmp_path / name])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_rehearsal_brings_a_unit_home(tmp_path):
    from campaign.rehearse import draw_digits

    draw_digits(tmp_path / "digits")
    (tmp_path / "work").mkdir()
    results = rehearse(tmp_path / "digits", tmp_path / "work", minutes=10)
    (entry,) = json.loads((results / "units.json").read_text())
    assert entry["unit"] == "opt=sammagnitude"
    assert entry["epochs"] == 1
    assert len(entry["measured"]) == 4
    assert MOST_BYTES == 64 * 2**20
