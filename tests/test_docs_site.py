"""The site of ``make docs``: built without a warning, and every link of it leads somewhere."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

pytest.importorskip("sphinx")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("site"), pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-W", "ignore", "-m", "sphinx", "-q", "-W", "--keep-going"]
    done = subprocess.run(
        [*command, "-b", "html", "-d", str(out / "trees"), "docs", str(out / "html")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return out / "html"


class Page(HTMLParser):
    """Ids, and what is linked or shown."""

    def __init__(self, file):
        super().__init__()
        self.ids, self.targets = set(), []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids |= {values[key] for key in ("id", "name") if values.get(key)}
        self.targets += [values[key] for key in ("href", "src") if values.get(key)]


def test_every_link_leads_somewhere(site):
    pages = {file: Page(file) for file in site.rglob("*.html") if "report" not in file.name}
    broken = []
    for file, page in pages.items():
        for target in page.targets:
            path, anchor = urldefrag(target)
            path = path.partition("?")[0]  # styles have their hash there
            if "://" in target or target.startswith(("data:", "mailto:", "javascript:")):
                continue
            found = (file.parent / unquote(path)).resolve() if path else file
            found = found / "index.html" if found.is_dir() else found
            ids = pages[found].ids if found in pages else {anchor}
            if not found.exists() or (anchor and unquote(anchor) not in ids):
                broken.append(f"{file.relative_to(site)}: {target}")
    assert broken == []


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("optim", ["SAM", "SGDHess", "frozen_statistics", "ClosureOptimizer.step", "gsam"]),
        ("sharpness", ["lambda_max", "top_eigenvalues", "Eigenvalues", "HessianOperator"]),
        ("analysis", ["load_runs", "open_study"]),
        ("register", ["model", "dataset"]),
    ],
)
def test_the_reference_has_what_is_public(site, page, names):
    module = {"analysis": "multirun_analysis"}.get(page, f"samsweep.{page}")
    ids = Page(site / "api" / f"{page}.html").ids
    assert {f"{module}.{name}" for name in names} <= ids


def test_nothing_is_loaded_from_elsewhere(site):
    for file in site.rglob("*.html"):
        if "report" in file.name:
            continue
        text = file.read_text(encoding="utf-8")
        assert 'src="http' not in text and 'rel="stylesheet" href="http' not in text, file
