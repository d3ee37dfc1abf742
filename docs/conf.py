"""The site: the pages of this folder, and the reference from docstrings (``make docs``)."""

import re
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

project = "samsweep"
author = "The samsweep authors"
release = version = version_of("samsweep")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# The tables of the studies are reached from their texts.
suppress_warnings = ["toc.not_included"]
html_theme = "furo"
html_title = f"samsweep {version}"

# GitHub's anchors of headings, for which the pages are written.
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_numpy_docstring = False

_ROOT = Path(__file__).parents[1]

#: Pages of the site that lie elsewhere in the repository.
_ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "campaign/README.md": "campaign.md",
    "examples/own_project": "own_project.md",
    "examples/own_project/README.md": "own_project.md",
}


def _read(app: Any, docname: str, source: list[str]) -> None:
    """Put pages from elsewhere in place, and have links lead to where they are on the site."""
    here = Path("docs") / f"{docname}.md"
    text = source[0]
    for outside, inside in _ELSEWHERE.items():
        if inside == f"{docname}.md" and not outside.endswith("own_project"):
            here = Path(outside)
            text = f"{(_ROOT / outside).read_text(encoding='utf-8')}\n{text}"
    up = "../" * docname.count("/")

    def to_site(link: re.Match[str]) -> str:
        target, hash_, anchor = link[1].partition("#")
        if not target or "://" in target or target.startswith("mailto:"):
            return link[0]
        path = (_ROOT / here.parent / target).resolve().relative_to(_ROOT).as_posix()
        outside = f"../{path}" if not path.startswith("docs/") else path.removeprefix("docs/")
        return f"]({up}{_ELSEWHERE.get(path, outside)}{hash_}{anchor})"

    source[0] = re.sub(r"\]\(([^)\s]+)\)", to_site, text)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _read)
