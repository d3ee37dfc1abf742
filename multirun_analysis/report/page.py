"""One self-contained HTML file about a study: question, verdicts, design, tables, figures, effects.

The file needs no network and no other file, and runs nothing. Whatever comes from records is
escaped.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from multirun_analysis.figures.captions import Picture
from multirun_analysis.figures.style import DPI
from multirun_analysis.report.provenance import design, provenance, question
from multirun_analysis.runs.launches import unfinished
from multirun_analysis.runs.reading import read_records
from multirun_analysis.study import Study
from multirun_analysis.tables.formats import to_html
from multirun_analysis.tables.pages import Page
from multirun_analysis.tables.study_pages import effect_pages, study_pages
from multirun_analysis.tables.verdicts import verdict_lines

#: Bytes beyond which a figure is smaller as pixels than as outlines.
_LARGEST_SVG = 200_000

_TEMPLATES = Environment(
    loader=PackageLoader("multirun_analysis.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def report_html(study: Study, pictures: Iterable[Picture], extra: Sequence[Page] = ()) -> str:
    """Everything about a study as one HTML document."""
    records = read_records(study.folder, [])
    return _TEMPLATES.get_template("report.html").render(
        title="Direction or magnitude?",
        study=study,
        question=question(study.runs),
        verdicts=verdict_lines(study.effects),
        design=_fragment(design(study.runs)),
        pages=[_fragment(page) for page in (*study_pages(study), *extra)],
        figures=[_figure(picture) for picture in pictures],
        effects=[_fragment(page) for page in effect_pages(study)],
        provenance=_fragment(provenance(study.runs, study.measurements, records)),
        num_unfinished=len(unfinished(study.runs)),
    )


# --------------------------------------------------------------------------- parts of the document


_HEADING = re.compile(r"<(/?)h([1-6])\b")


def _fragment(page: Page) -> dict[str, str]:
    """A page below the report's own headings, with tables that scroll by themselves."""
    html = _HEADING.sub(lambda found: f"<{found[1]}h{min(6, int(found[2]) + 2)}", to_html(page))
    label = f"Table: {escape(page.title)}"
    scroll = f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table'
    html = re.sub(r"<table\b", lambda _: scroll, html).replace("</table>", "</table></div>")
    return {"anchor": _anchor("page", page.name), "title": page.title, "html": Markup(html)}


def _figure(picture: Picture) -> dict[str, Any]:
    width, height = picture.figure.get_size_inches()
    return {
        "anchor": _anchor("figure", picture.name),
        "picture": picture,
        "source": _data_uri(picture),
        "width": round(96 * width),  # in CSS pixels
        "height": round(96 * height),
    }


def _anchor(kind: str, name: str) -> str:
    """An id that a link can name, whatever the name holds."""
    return f"{kind}-{re.sub(r'[^0-9A-Za-z_-]+', '-', name)}"


def _data_uri(picture: Picture) -> str:
    """Outlines where they are small, else pixels of 256 colours."""
    svg = picture.svg
    if len(svg) <= _LARGEST_SVG:
        return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
    image = Image.open(BytesIO(picture.png)).convert("RGB")
    buffer = BytesIO()
    few = image.quantize(256, dither=Image.Dither.NONE)
    few.save(buffer, format="PNG", optimize=True, dpi=(DPI, DPI))
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
