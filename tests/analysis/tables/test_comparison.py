"""Published values beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from multirun_analysis.references import load_reference
from multirun_analysis.study import open_study
from multirun_analysis.tables.comparison import COMPARISON_COLUMNS, comparison_page
from multirun_analysis.tables.pages import Page
from samsweep.config import AugmentConfig, CellConfig
from samsweep.records.schema import Measurement

from ..conftest import Study, cell, dtypes, measurement, spectrum, taken, variant

CIFAR100 = {
    "name": "cifar100",
    "augment": AugmentConfig(crop_padding=4, flip=True, cutout=16),
    "label_noise": 0.0,
}
PUBLISHED = {"epochs": 200, "batch_size": 256, "lr_schedule": "cosine_per_epoch"}


def _cell(name: str, rho: float | None = None, **changes: Any) -> CellConfig:
    """A cell of the study's own setting."""
    options = {"model": "resnet18", "dataset": CIFAR100, **PUBLISHED} | changes
    return cell(variant(name, rho), **options)


def _page(root: Path) -> Page:
    return comparison_page(open_study("default", root))


def _row(
    page: Page, optimizer: str, rho: str, what: str = "Test accuracy", model: str = "resnet18"
) -> dict[str, Any]:
    """A row of the table of a model below the first heading that starts with ``what``."""
    headings = [section.heading for section in page.sections]
    start = next(i for i, heading in enumerate(headings) if heading.startswith(what))
    [table, *_] = [s.table for s in page.sections[start:] if s.heading == model]
    assert table is not None
    rows = table[(table["optimizer"] == optimizer) & (table["rho"] == rho)]
    [row] = rows.to_dict("records")
    return {str(key): value for key, value in row.items()}


def _notes(page: Page) -> list[str]:
    return [text for section in page.sections for text in section.text]


def test_differences_under_both_readings(study: Study, root: Path) -> None:
    # The study's protocol is the accuracy at best validation: here one point above the last.
    for seed, offset in enumerate((0.0, 1.0, 2.0)):
        study.add(_cell("samdirection", 0.1, seed=seed), 76.89 + offset)
    study.add(_cell("sammagnitude", 0.1), 79.0)
    study.add(_cell("sam", 0.1), 78.0)
    page = _page(root)
    assert _row(page, "SAMDIRECTION", "0.1") == {
        "optimizer": "SAMDIRECTION",
        "granularity": "element",
        "rho": "0.1",
        "published": "77.89",
        "ours, by name": "78.89 ± 1.00 (n=3)",
        "difference, by name": "+1.00",
        "ours, as coded": "80.00",
        "difference, as coded": "+2.11",
    }
    swapped = _row(page, "SAMMAGNITUDE", "0.1")
    assert swapped["ours, by name"] == "80.00" and swapped["difference, by name"] == "+1.27"
    assert swapped["ours, as coded"] == "78.89 ± 1.00 (n=3)"
    assert swapped["difference, as coded"] == "+0.16"
    sam = _row(page, "SAM", "0.1")
    assert sam["difference, by name"] == sam["difference, as coded"] == "-0.24"


def test_what_ours_or_theirs_lack_is_not_a_number(study: Study, root: Path) -> None:
    study.add(_cell("sam", 0.1), 78.0)
    study.add(_cell("sam", 0.2), status="diverged")
    study.add(_cell("sam", 0.1, model="resnet34"), 78.0)
    page = _page(root)
    assert _row(page, "SAM", "0.2")["ours, by name"] == "diverged"
    assert _row(page, "SAM", "0.2")["difference, by name"] == ""
    assert _row(page, "SAM", "0.4")["ours, by name"] == "??"
    unpublished = _row(page, "SAM", "0.1", model="resnet34")
    assert (unpublished["published"], unpublished["ours, by name"]) == ("??", "79.00")
    assert unpublished["difference, by name"] == ""


def test_other_granularities_and_ascents_are_not_the_published(study: Study, root: Path) -> None:
    for other in (
        variant("samdirection", 0.1, granularity="global"),
        variant("samdirection", 0.1, ascent="adaptive", eta=0.01, scaled="weights"),
    ):
        study.add(cell(other, model="resnet18", dataset=CIFAR100, **PUBLISHED), 80.0)
    assert _row(_page(root), "SAMDIRECTION", "0.1")["ours, by name"] == "??"


def test_another_data_set_has_no_differences(small_grid: Study, root: Path) -> None:
    page = _page(root)
    assert any("is on cifar100; this study has digits" in note for note in _notes(page))
    assert page.data["difference"].isna().all() and page.data["mean"].isna().all()
    assert page.data["published"].notna().any()
    row = _row(page, "SAM", "0.1")
    assert (row["published"], row["ours, by name"]) == ("79.24", "??")


def test_a_folder_of_the_same_images_stands_beside_them(study: Study, root: Path) -> None:
    [fingerprint] = load_reference().attrs["same_images"]
    folder = CIFAR100 | {"name": "image_folder", "fingerprint": fingerprint}
    study.add(_cell("sam", 0.1, dataset=folder), 78.0)
    study.add(cell(variant("sam", 0.1), model="resnet18"), 10.0)  # of another data set
    study.add(_cell("sam", 0.2, dataset=folder | {"fingerprint": "0" * 16}), 99.0)
    page = _page(root)
    assert _row(page, "SAM", "0.1")["difference, by name"] == "-0.24"
    assert _row(page, "SAM", "0.2")["ours, by name"] == "??"
    assert any("validation images are another tenth" in note for note in _notes(page))


def test_another_recipe_says_in_what_it_differs(study: Study, root: Path) -> None:
    study.add(_cell("sam", 0.1), 78.0)
    study.add(_cell("sam", 0.1, epochs=5, momentum=None, base="adamw"), 60.0)
    notes = {s.heading: s.text for s in _page(root).sections if s.heading.startswith("Test")}
    (short, short_notes), (_, own_notes) = notes.items()
    assert "5 epochs" in short
    assert short_notes == (
        "Our recipe is another than the published one: base adamw (published: sgd), "
        "momentum none (published: 0.9), epochs 5 (published: 200).",
    )
    assert own_notes == ("Our recipe is the published one, as far as that is stated.",)


def _study_sharpness(value: float | None, **others: float) -> Measurement:
    """A measurement of the study's own protocol."""
    section = {"num_batches": 40, "batch_size": 256, "num_eigenvalues": 5}
    return taken("empirical_sam", {"empirical_sam": value, **others}, empirical_sam=section)


def test_another_sharpness_has_no_difference(study: Study, root: Path) -> None:
    same = _study_sharpness(70.0)
    study.add(_cell("sam", 0.1), 78.0, measurement(50.0), same)
    page = _page(root)
    other = _row(page, "SAM", "0.1", "Sharpness: lambda_max")
    assert (other["published"], other["ours, by name"]) == ("71.04", "50.00")
    assert other["difference, by name"] == ""
    own = _row(page, "SAM", "0.1", "Sharpness: empirical_sam")
    assert own["difference, by name"] == "-1.040"
    assert (
        sum("another quantity than the published sharpness" in note for note in _notes(page)) == 1
    )


def test_the_published_sharpness_is_compared_with_the_studys_own_value(
    study: Study, root: Path
) -> None:
    # An eigenvalue in the same result is another number, and never compared in its place.
    study.add(_cell("sam", 0.1), 78.0, _study_sharpness(70.0, lambda_max=500.0))
    study.add(_cell("sam", 0.2), 78.0, _study_sharpness(None, lambda_max=500.0))
    page = _page(root)
    for rho, text in (("0.1", "70.00"), ("0.2", "??")):
        assert _row(page, "SAM", rho, "Sharpness: empirical_sam")["ours, by name"] == text
    ours = page.data[(page.data["quantity"] == "sharpness") & page.data["mean"].notna()]
    assert set(ours["mean"]) == {70.0}
    assert ours.loc[ours["variant"] == "sam", "difference"].tolist() == pytest.approx([-1.04] * 2)
    assert "40 batches of 256, 5 eigenvalues" in ours["settings_label"].iloc[0]
    assert not any("another quantity" in note for note in _notes(page))


def test_what_is_no_eigenvalue_stands_beside_no_published_sharpness(
    study: Study, root: Path
) -> None:
    trace, curve = taken("trace", {"trace": 900.0}, trace={"num_samples": 100}), spectrum(0.0, 1.0)
    study.add(_cell("sam", 0.1), 78.0, measurement(50.0), _study_sharpness(70.0), trace, curve)
    headings = [s.heading for s in _page(root).sections if s.heading.startswith("Sharpness")]
    assert [heading.split(",")[0] for heading in headings] == [
        "Sharpness: empirical_sam",
        "Sharpness: lambda_max",
    ]


def test_sgd_and_sgdhess_stand_beside_theirs(study: Study, root: Path) -> None:
    study.add(_cell("sgd"), 76.36)
    study.add(_cell("sgdhess", 0.05), 75.0)
    page = _page(root)
    assert _row(page, "SGD", "")["difference, by name"] == "+0.00"
    assert _row(page, "SGDHESS", "0.05")["difference, by name"] == "-1.27"


def test_every_published_number_is_shown_with_its_source(study: Study, root: Path) -> None:
    study.add(_cell("sgd"), 77.0)
    page, published = _page(root), load_reference()
    assert dtypes(page.data) == dict(COMPARISON_COLUMNS)
    shown = page.data[page.data["reading"] == "by name"]
    assert len(shown) == len(published)
    assert shown["published"].sum() == pytest.approx(published["value"].sum())
    about = page.sections[-1]
    assert about.text[0] == published.attrs["source"]
    assert any("opposite" in text for text in about.text)
    assert (pd.Series(page.data["source"]) == published.attrs["source"]).all()
