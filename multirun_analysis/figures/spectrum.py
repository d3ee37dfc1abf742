"""The density of the Hessian's eigenvalues, from stochastic Lanczos quadrature."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from multirun_analysis.figures.panels import (
    Cells,
    Row,
    by_line,
    draw_line,
    panel_figure,
    panel_legend,
    panel_rows,
)
from multirun_analysis.figures.style import Palette, log_axis, styled
from multirun_analysis.runs.array_measures import Array, Spectrum

#: Standard deviation of the Gaussians, as a share of the range of the eigenvalues in a row of
#: panels. The bulk at zero is some hundredths of that range wide: wider Gaussians hide it, narrower
#: ones draw a peak for each node, of which Lanczos puts only some there.
WIDTH = 0.01
#: Points of a curve: several to a width.
_POINTS = 701


def density(spectrum: Spectrum, at: Array, width: float) -> Array:
    """Density of the eigenvalues, each taken as a Gaussian.

    Args:
        spectrum: Nodes and weights of the quadrature.
        at: Where, of shape (points,).
        width: Standard deviation of the Gaussians.

    Returns:
        Of shape (points,): the share of all eigenvalues per unit; it integrates to one.
    """
    away = (at[:, None] - spectrum.nodes[None, :]) / width
    gaussians = np.exp(-0.5 * away**2) / (np.sqrt(2 * np.pi) * width)
    return np.asarray(gaussians @ spectrum.weights, dtype=np.float64)


def widths(cells: Cells) -> list[float]:
    """The width of the Gaussians in each row of panels."""
    return [_width(spectra) for spectra in (_spectra(row, cells) for row in panel_rows(cells))]


def _width(spectra: Iterable[Spectrum]) -> float:
    """A share of the range of some spectra; 1 where all eigenvalues are equal."""
    nodes = np.concatenate([spectrum.nodes for spectrum in spectra])
    return float(WIDTH * np.ptp(nodes)) or 1.0


def _spectra(row: Row, cells: Cells) -> list[Spectrum]:
    keys = dict.fromkeys(key for panel in row.panels for key in panel.lines)
    return [one for key in keys for one in cells[key]["array"]]


@styled
def spectral_density(found: pd.DataFrame, palette: Palette) -> Figure | None:
    """Densities of eigenvalues of one model: a row per granularity, a column per radius.

    Returns:
        None where there is no spectrum.
    """
    cells = by_line(found)
    rows = panel_rows(cells)
    if not rows:
        return None
    figure, grid = panel_figure(rows, 2.1, "eigenvalue of the Hessian", "density")
    for row, line in zip(rows, grid, strict=True):
        _draw_row(line, row, cells, palette)
    panel_legend(figure, rows, palette)
    return figure


def _most_seeds(row: Row, cells: Cells) -> int:
    return max(len(cells[key]) for panel in row.panels for key in panel.lines)


def _draw_row(line: list[Axes], row: Row, cells: Cells, palette: Palette) -> None:
    """Panels of one scale and one width of the Gaussians."""
    spectra = _spectra(row, cells)
    width = _width(spectra)
    nodes = np.concatenate([spectrum.nodes for spectrum in spectra])
    at = np.linspace(nodes.min() - 5 * width, nodes.max() + 5 * width, _POINTS)
    curves = {
        key: np.mean([density(one, at, width) for one in cells[key]["array"]], axis=0)
        for panel in row.panels
        for key in panel.lines
    }
    # The highest that a curve can be, and how high a single eigenvalue of one of the seeds is.
    top = 1 / (np.sqrt(2 * np.pi) * width)
    lowest = top / max(spectrum.dim for spectrum in spectra) / _most_seeds(row, cells)
    for panel, axes in zip(row.panels, line, strict=True):
        for k, (series, rho) in enumerate(panel.lines):
            style, place = palette.style(*series), (k, len(panel.lines))
            draw_line(axes, at, curves[series, rho], style, series.label, place, markers=12)
        axes.set_xlim(at[0], at[-1])
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        log_axis(axes, min(lowest / 5, top / 100), 3 * top, powers=True)
        axes.tick_params(labelleft=axes is line[0])
