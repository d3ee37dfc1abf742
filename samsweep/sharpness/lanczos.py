"""Largest eigenvalues of a symmetric operator by Lanczos, stopped by their residuals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from samsweep.numerics.vectors import exact_dot
from samsweep.sharpness.results import check_positive

Array = NDArray[np.float64]

#: Rows of a block of the basis, which grows by blocks: nothing is copied, nor is more than one
#: block ahead of its use.
_ROWS = 8

#: What residuals have to reach, in tolerances. A start with the a-th part of an eigenvector, whose
#: eigenvalue lies d from a Ritz value, shows it as a residual of a * d: one further than a
#: tolerance can only be missed by a start that has less than this of it.
#: ``benchmarks/spectra.py`` counts how often that is, and what the caution costs.
CAUTION = 0.01

#: Where more than one eigenvalue is wanted, residuals have to reach this as well, relative to
#: |theta_1|: at loose tolerances the sixth passes for the fifth until then. Starting vectors know
#: less of the fifth than of the first. ``docs/decisions.md`` has a network on which it happened.
LOOSEST = 1e-3

#: No gap is believed to be wider in an error estimate, relative to |theta_1|.
UNSEEN_GAP = 0.01


@dataclass(frozen=True)
class Lanczos:
    """The largest eigenvalues, and how well they are known.

    Args:
        eigenvalues: Largest algebraic first, shape (k,). Fewer if the operator has fewer, or if
            ``max_matvecs`` was less than k.
        error_bounds: ||A x - theta x|| of each Ritz pair, or rounding where that is more, shape
            (k,). Some eigenvalue of A lies within it, always.
        error_estimates: min(residual, residual²/gap) likewise, with an estimated gap, shape (k,).
        num_matvecs: Products that were taken.
        converged: Whether every residual was small enough for the tolerance.
        eigenvectors: Ritz vectors as rows, shape (k, dim), if asked for.
    """

    eigenvalues: Array
    error_bounds: Array
    error_estimates: Array
    num_matvecs: int
    converged: bool
    eigenvectors: Tensor | None = None


def lanczos(
    matvec: Callable[[Tensor], Tensor],
    dim: int,
    *,
    k: int,
    tolerance: float = 1e-4,
    max_matvecs: int = 200,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    eigenvectors: bool = False,
    start: Tensor | None = None,
) -> Lanczos:
    """The k largest (algebraic) eigenvalues of a symmetric operator A.

    m products give an orthonormal basis V of a Krylov space and a tridiagonal T with

        A Vᵀ = Vᵀ T + beta v_{m+1} e_mᵀ,

    so that an eigenpair (theta, s) of T gives the Ritz pair (theta, Vᵀ s) with the residual
    r = beta abs(s_m). An eigenvalue of A lies within r of theta: that is the error bound. It lies
    within r²/gap if gap separates theta from the other eigenvalues (Parlett 1998, The Symmetric
    Eigenvalue Problem, section 11.7): with the gap taken from the other Ritz values, that is an
    error estimate. Neither is claimed to be less than rounding.

    No residual shows which eigenvalue it is. An eigenvalue that the starting vector hardly has can
    be missing, while another passes for it; until it shows, it holds the residuals up. Iteration
    therefore stops when all k residuals are within :data:`CAUTION` * ``tolerance`` * abs(theta_1),
    for k > 1 within :data:`LOOSEST` * abs(theta_1) too (or within rounding), after at least k + 2
    products.

    The basis is fully reorthogonalised, twice per product ("twice is enough", ibid. section
    6.9). Where it spans an invariant subspace, a random vector orthogonal to it continues, and the
    rest of the space is searched as well: a space that closes early has hidden a multiple
    eigenvalue.

    Eigenvalues that are equal, or closer than the tolerance, can pass for one as long as the space
    has not closed.

    Args:
        matvec: A, maps shape (dim,) to shape (dim,) and leaves its argument as it is.
        dim: Size of the space.
        k: Number of eigenvalues.
        tolerance: Error to reach, relative to the largest eigenvalue's absolute value.
        max_matvecs: Products after which what was reached is reported as it is.
        seed: Of the random starting vector, drawn on the CPU: it is the same on every device.
        dtype: Of the vectors.
        device: Of the vectors.
        eigenvectors: Whether to return the Ritz vectors.
        start: Starting vector, shape (dim,), in place of the random one: near the wanted
            eigenvectors it saves products. One that lacks an eigenvector can hide its eigenvalue.

    Raises:
        ValueError: If a number is out of range.
        FloatingPointError: If a product is not finite.

    >>> diagonal = torch.tensor([-9.0, 1.0, 2.0], dtype=torch.float64)
    >>> result = lanczos(lambda v: diagonal * v, 3, k=2, dtype=torch.float64)
    >>> result.eigenvalues.round(6).tolist()
    [2.0, 1.0]
    """
    check_positive(dim=dim, k=k, tolerance=tolerance, max_matvecs=max_matvecs)
    krylov = _Krylov(dim, seed, dtype, device, start)
    while True:
        krylov.extend(matvec)
        ritz = krylov.ritz()
        if krylov.size == min(max_matvecs, dim) or _settled(krylov, ritz, k, tolerance):
            break
    estimates = ritz.error_estimates[:k]
    return Lanczos(
        eigenvalues=ritz.values[:k] * krylov.unit,
        error_bounds=ritz.error_bounds[:k] * krylov.unit,
        error_estimates=estimates * krylov.unit,
        num_matvecs=krylov.size,
        converged=len(estimates) == min(k, dim)
        and ritz.within(tolerance, k)
        and bool((estimates <= tolerance * abs(ritz.values[0])).all()),
        eigenvectors=krylov.lift(ritz.vectors[:, :k]) if eigenvectors else None,
    )


def quadrature(
    matvec: Callable[[Tensor], Tensor], start: Tensor, *, num_steps: int
) -> tuple[Array, Array]:
    """Gauss quadrature of the spectrum as a starting vector v sees it.

    sum_j weights_j f(nodes_j) = vᵀ f(A) v / vᵀv for polynomials f of degree below 2 num_steps
    (Golub & Meurant 2010, Matrices, Moments and Quadrature, chapter 6).

    Args:
        matvec: A, symmetric; maps shape (dim,) to shape (dim,).
        start: v, shape (dim,).
        num_steps: Products; fewer are taken where the Krylov space closes.

    Returns:
        Nodes, largest first, and their weights, which sum to 1.

    Raises:
        FloatingPointError: If a product is not finite.
    """
    krylov = _Krylov(len(start), 0, start.dtype, start.device, start)
    while krylov.size < min(num_steps, len(start)):
        krylov.extend(matvec)
        if krylov.closed[-1]:
            break
    ritz = krylov.ritz()
    return ritz.values * krylov.unit, ritz.vectors[0] ** 2


@dataclass(frozen=True)
class _Ritz:
    """Eigenpairs of T, largest first: vectors are columns; below ``rounding`` nothing is known."""

    values: Array
    vectors: Array
    residuals: Array
    rounding: float

    @property
    def error_bounds(self) -> Array:
        """Residuals, or rounding where that is more, shape (m,)."""
        return np.maximum(self.residuals, self.rounding)

    def within(self, tolerance: float, k: int) -> bool:
        """Whether the first k values are known well enough for the tolerance, or to rounding."""
        largest, caution = abs(self.values[0]), CAUTION * tolerance
        residual = min(caution, LOOSEST) if k > 1 else caution
        estimated = self.error_estimates[:k] <= max(tolerance * largest, self.rounding)
        cautious = self.residuals[:k] <= max(residual * largest, self.rounding)
        return bool((estimated & cautious).all())

    @property
    def error_estimates(self) -> Array:
        """min(residual, residual²/gap), or rounding where that is more, shape (m,).

        A gap reaches to the nearest of the intervals, one residual wide on both sides, around
        the other Ritz values, and to where an unseen eigenvalue must be allowed for.
        """
        distances = np.abs(self.values[:, None] - self.values) - self.residuals
        np.fill_diagonal(distances, UNSEEN_GAP * abs(self.values[0]))
        gap = distances.min(axis=1)
        bounds = self.residuals.copy()
        np.divide(self.residuals**2, gap, out=bounds, where=gap > 0)
        return np.maximum(np.minimum(bounds, self.residuals), self.rounding)


class _Krylov:
    """Orthonormal basis V and tridiagonal T of A's Krylov space, grown one product at a time.

    T is that of A / ``unit``, a power of two near the norm of the first product where the squares
    of very small or large products would leave float32. T has ``alphas`` on its diagonal and
    ``betas`` beside it, but where the space had ``closed`` after a row: there beta is rounding
    noise, T has a 0 and falls into blocks, and the next row of V is a fresh random vector.
    """

    def __init__(
        self,
        dim: int,
        seed: int,
        dtype: torch.dtype,
        device: torch.device | str,
        start: Tensor | None = None,
    ) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._like = torch.empty(0, dtype=dtype, device=device)
        self._dim = dim
        self._blocks: list[Tensor] = []
        self._remainder: Tensor | None = self._random() if start is None else start
        self._epsilon = torch.finfo(dtype).eps
        self.unit = 1.0
        self.alphas: list[float] = []
        self.betas: list[float] = []
        self.closed: list[bool] = []

    @property
    def size(self) -> int:
        """Number of basis vectors, and of products."""
        return len(self.alphas)

    @property
    def basis(self) -> list[Tensor]:
        """V in blocks of some of its rows each, which come to shape (size, dim)."""
        filled = (min(_ROWS, self.size - first) for first in range(0, self.size, _ROWS))
        return [block[:rows] for block, rows in zip(self._blocks, filled, strict=False)]

    @property
    def scale(self) -> float:
        """Largest element of T: A's norm as far as it is known, within a factor of 3."""
        return max(map(abs, self.alphas + self.betas[:-1]))

    @property
    def rounding(self) -> float:
        """What ten rounding errors amount to, and one more for every product."""
        return (10 + self.size) * self._epsilon * self.scale

    @property
    def last_block(self) -> int:
        """First row of the block that was grown last; 0 if the space never closed before."""
        return max((row for row in range(1, self.size) if self.closed[row - 1]), default=0)

    def extend(self, matvec: Callable[[Tensor], Tensor]) -> None:
        """Add the next basis vector and take its product."""
        v = self._next_vector()
        product = matvec(v)
        if self.size == 0:
            self.unit = _power_of_two(product)
        if self.unit != 1:
            product = product / self.unit
        self.alphas.append(exact_dot(v, product).item())
        self._remainder = _orthogonalise(product, self.basis)
        self.betas.append(math.sqrt(exact_dot(self._remainder, self._remainder).item()))
        if not np.isfinite(self.alphas[-1] + self.betas[-1]):
            raise FloatingPointError(
                f"product {self.size} of the operator is not finite: check the loss and the "
                "weights, which may have diverged, or measure in float64"
            )
        # More than a rounding error, because small betas before this one amplify it.
        self.closed.append(self.betas[-1] <= self._epsilon ** (2 / 3) * self.scale)

    def ritz(self, first: int = 0) -> _Ritz:
        """Eigenpairs of T, or of its part from row ``first`` on."""
        betas, closed = np.array(self.betas[first:]), np.array(self.closed[first:])
        values, vectors = eigh_tridiagonal(self.alphas[first:], np.where(closed, 0, betas)[:-1])
        # What T leaves out of A: the last row's beta, and those taken for 0.
        closed[-1] = True
        residuals = np.where(closed, betas, 0) @ np.abs(vectors)
        return _Ritz(values[::-1], vectors[:, ::-1], residuals[::-1], self.rounding)

    def lift(self, vectors: Array) -> Tensor:
        """Combine basis vectors: columns of shape (size, k) become rows of shape (k, dim)."""
        columns = torch.as_tensor(vectors.copy()).to(self._like)
        lifted = self._like.new_zeros(columns.shape[1], self._dim)
        for part, block in zip(torch.split(columns, _ROWS), self.basis, strict=True):
            lifted.addmm_(part.T, block)
        return lifted

    def _next_vector(self) -> Tensor:
        """The remainder, normalised, as the next row of the basis; it is freed."""
        remainder = self._remainder
        if remainder is None or (self.size and self.closed[-1]):
            remainder = self._fresh()
        self._remainder = None
        block, row = divmod(self.size, _ROWS)
        if row == 0:
            rows = min(_ROWS, self._dim - self.size)
            self._blocks.append(self._like.new_empty(rows, self._dim))
        length = exact_dot(remainder, remainder).sqrt()
        return torch.div(remainder, length, out=self._blocks[block][row])

    def _fresh(self) -> Tensor:
        """A random vector orthogonal to the basis, of which a first draw may have been a part."""
        for _ in range(2):
            drawn = self._random()
            left = _orthogonalise(drawn, self.basis)
            if exact_dot(left, left) > self._epsilon * exact_dot(drawn, drawn):
                break
        return left

    def _random(self) -> Tensor:
        drawn = torch.randn(self._dim, generator=self._generator, dtype=self._like.dtype)
        return drawn.to(self._like.device)


def _power_of_two(product: Tensor) -> float:
    """Near the largest element, or 1 where the squares of all keep their digits."""
    largest = product.abs().max().item()
    if not math.isfinite(largest) or largest == 0 or 1e-9 < largest < 1e9:
        return 1.0
    return float(2.0 ** math.frexp(largest)[1])


def _orthogonalise(v: Tensor, basis: list[Tensor]) -> Tensor:
    """What is left of ``v``, shape (d,), outside the span of the rows of ``basis``."""
    v = v.clone()
    for _ in range(2):
        for rows in basis:
            v.addmv_(rows.T, rows @ v, alpha=-1)
    return v


def _settled(krylov: _Krylov, ritz: _Ritz, k: int, tolerance: float) -> bool:
    """Whether the k largest Ritz values can be taken for the k largest eigenvalues."""
    if krylov.size < k + 2 or not ritz.within(tolerance, k):
        return False
    allowed = max(tolerance * abs(ritz.values[0]), krylov.rounding)
    return not _hides_multiples(krylov, ritz.values[k - 1], allowed)


def _hides_multiples(krylov: _Krylov, smallest: float, allowed: float) -> bool:
    """Whether eigenvalues above ``smallest`` may lie where the basis has not been yet.

    Only once the space has closed: the last block, from a fresh random vector, explores what was
    left of it. Its largest eigenvalue must be known, and be no longer among the wanted ones.
    """
    if not any(krylov.closed):
        return False
    block = krylov.ritz(krylov.last_block)
    return bool(block.residuals[0] > allowed or block.values[0] > smallest + allowed)
