"""Figures of spectra and landscapes, which no table can show, with their captions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from multirun_analysis.figures.captions import Picture, Recipe, listed, not_drawn, slug
from multirun_analysis.figures.landscape import loss_along_line, loss_over_plane, plane_rows
from multirun_analysis.figures.panels import (
    NO_RHO,
    Cells,
    Row,
    by_line,
    models_of,
    panel_rows,
    rhos_left_out,
)
from multirun_analysis.figures.spectrum import WIDTH, spectral_density, widths
from multirun_analysis.figures.style import Palette
from multirun_analysis.runs.array_measures import load_arrays
from multirun_analysis.study import Study
from multirun_analysis.wording.numbers import number

_MEANS = "Lines are means over the seeds of complete cells"


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """A figure of the cells of one recipe, model and measurement."""

    title: str
    draw: Callable[[pd.DataFrame, Palette], Figure | None]
    rows: Callable[[Cells], list[Row]]
    caption: Callable[[Cells], str]
    describe: Callable[[pd.DataFrame], str]
    alt: str


def array_pictures(recipe: Recipe, study: Study, palette: Palette) -> Iterator[Picture]:
    """A picture of the spectra or landscapes of each model and measurement."""
    measured = study.measurements[study.measurements["cell_id"].isin(recipe.runs["cell_id"])]
    complete = measured[measured["status"] == "complete"]
    found = load_arrays(study.folder, measured)
    for name, kind in _KINDS.items():
        rows = found[found["name"] == name].sort_values("settings_label", kind="stable")
        settings = rows["settings_key"].unique()
        for key in settings:
            yield from _of_measurement(
                kind,
                rows[rows["settings_key"] == key],
                complete[complete["settings_key"] == key],
                recipe,
                palette,
                slug(str(key)) if len(settings) > 1 else name,
                several=len(settings) > 1,
            )


def _of_measurement(
    kind: _Kind,
    found: pd.DataFrame,
    measured: pd.DataFrame,
    recipe: Recipe,
    palette: Palette,
    name: str,
    *,
    several: bool,
) -> Iterator[Picture]:
    """A picture per model of one measurement: of ``found``, all of ``measured`` that was read."""
    models = models_of(found)
    for model in models:
        rows = found[found["model"] == model]
        cells = by_line(rows)
        unread = int((measured["model"] == model).sum()) - len(rows)
        left_out = not_drawn(rhos_left_out(kind.rows(cells), cells))
        described = [
            f"{series.label}{'' if rho == NO_RHO else f' rho {number(rho)}'} {kind.describe(rows)}"
            for (series, rho), rows in cells.items()
        ]
        yield from recipe.picture(
            name,
            kind.title,
            kind.draw(rows, palette),
            f"{kind.caption(cells)}{left_out}{_unread(unread)}",
            f"{kind.title}: {kind.alt}, of {model}. {listed(described)}.",
            model=model,
            several_models=len(models) > 1,
            label=str(found["settings_label"].iloc[0]),
            several_labels=several,
        )


# --------------------------------------------------------------------------- words


def _unread(count: int) -> str:
    if not count:
        return ""
    records = "1 cell whose record has" if count == 1 else f"{count} cells whose records have"
    return f" Not drawn: {records} another form."


def _spectra_caption(cells: Cells) -> str:
    shown = [f"{width:.2g}" for width in widths(cells)]
    texts = ", ".join(shown) + ", from the top" * (len(shown) > 1)
    return (
        "Share of the Hessian's eigenvalues per unit, by stochastic Lanczos quadrature: each node "
        f"is a Gaussian whose standard deviation is {100 * WIDTH:g} % of the range of the "
        f"eigenvalues in its row of panels ({texts}). The axis is logarithmic: the "
        f"bulk at zero is nearly all of them, each peak to the right a few. {_MEANS}."
    )


def _line_caption(cells: Cells) -> str:
    return (
        "Loss at w + α d along one random direction d, each of whose filters has the norm of the "
        f"network's own; the weights w are at α = 0. {_MEANS}, each of "
        "which is faint. A mean ends where the loss of a seed is no number."
    )


def _plane_caption(cells: Cells) -> str:
    seeds = sorted({int(rows["seed"].iloc[0]) for rows in cells.values()})
    return (
        "Loss at w + α d + β e over the plane of two random directions, each of whose filters has "
        "the norm of the network's own; the dot is w. Each panel is of one network, that of the "
        f"lowest seed ({', '.join(map(str, seeds))}). Levels are the same in all panels, up to the "
        "loss below which nine tenths of the points are; what is above, or no number, has the "
        "brightest shade."
    )


def _largest(rows: pd.DataFrame) -> str:
    return f"{sum(one.nodes.max() for one in rows['array']) / len(rows):.4g}"


def _ends(rows: pd.DataFrame) -> str:
    losses = sum(one.losses for one in rows["array"]) / len(rows)
    middle = int(abs(rows["array"].iloc[0].alphas).argmin())
    return " to ".join(f"{losses[k]:.4g}" for k in (middle, -1))


def _corner(rows: pd.DataFrame) -> str:
    plane = rows["array"].iloc[0]
    middle = abs(plane.alphas).argmin(), abs(plane.betas).argmin()
    return f"{plane.losses[middle]:.4g} to {plane.losses[-1, -1]:.4g}"


_KINDS: Mapping[str, _Kind] = {
    "spectral_density": _Kind(
        title="Spectral density of the Hessian",
        draw=spectral_density,
        rows=panel_rows,
        caption=_spectra_caption,
        describe=_largest,
        alt="curves of the density of eigenvalues, and here the largest of them",
    ),
    "landscape_1d": _Kind(
        title="Loss along a random direction",
        draw=loss_along_line,
        rows=panel_rows,
        caption=_line_caption,
        describe=_ends,
        alt="curves of the loss, and here from the weights to the right end",
    ),
    "landscape_2d": _Kind(
        title="Loss over the plane of two random directions",
        draw=lambda found, _: loss_over_plane(found),
        rows=plane_rows,
        caption=_plane_caption,
        describe=_corner,
        alt="contours of the loss, and here from the weights to the upper right corner",
    ),
}
