"""What is measured from a trained network, and the settings that decide each measure's value."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from samsweep.config.fields import NO_ARGUMENTS, Arguments, Count, Frozen, Positive, Seed


class TraceConfig(Frozen):
    """Random probes of ``trace``, ``ggn_trace`` and ``fisher_trace``.

    Args:
        num_samples: Probes. The standard errors of Gauss-Newton's and Fisher's traces fall with
            their square root, that of the Hessian's faster.
    """

    num_samples: Annotated[int, Field(ge=2)]


class SpectralDensityConfig(Frozen):
    """Stochastic Lanczos quadrature.

    Args:
        num_vectors: Random starting vectors.
        num_steps: Lanczos steps from each: nodes of its quadrature.
    """

    num_vectors: Annotated[int, Field(ge=2)]
    num_steps: Annotated[int, Field(ge=2)]


class WorstCaseConfig(Frozen):
    """The balls of the worst-case measures, and the projected gradient ascent in them.

    Args:
        rho_l2: Radius, of the norm of all parameters together.
        rho_linf: Radius, of each parameter.
        adaptive_rho_l2: Radius where each parameter's change counts relative to its size.
        adaptive_rho_linf: Largest relative change of a parameter.
        num_steps: Steps of ascent on each batch.
        batch_size: Images of a batch, m: each has its own worst perturbation.
    """

    rho_l2: Positive
    rho_linf: Positive
    adaptive_rho_l2: Positive
    adaptive_rho_linf: Positive
    num_steps: Count
    batch_size: Count


class AverageCaseConfig(Frozen):
    """Gaussian noise on the parameters.

    Args:
        rho: Its standard deviation.
        adaptive_rho: Its standard deviation relative to each parameter's size.
        num_samples: Draws, the same for every network of one shape.
    """

    rho: Positive
    adaptive_rho: Positive
    num_samples: Annotated[int, Field(ge=2)]


class SamGapConfig(Frozen):
    """One step of SAM's ascent.

    Args:
        rho: Radius.
        batch_size: Images of a batch, each of which has its own ascent.
    """

    rho: Positive
    batch_size: Count


class LandscapeConfig(Frozen):
    """Slices of the loss along random filter-normalised directions.

    Args:
        radius: How far they reach on both sides, in filter norms.
        num_points_1d: Points of the line; odd, so that the weights themselves are one.
        num_points_2d: Points of each side of the plane, odd likewise.
    """

    radius: Positive
    num_points_1d: Annotated[int, Field(ge=3)]
    num_points_2d: Annotated[int, Field(ge=3)]

    @model_validator(mode="after")
    def _odd(self) -> Self:
        for name in ("num_points_1d", "num_points_2d"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(
                    f"{name}={getattr(self, name)}: choose an odd number, so that the weights "
                    "themselves are a point"
                )
        return self


class EmpiricalSamConfig(Frozen):
    """The study's protocol: eigenvalues of single batches of augmented training images.

    Args:
        num_batches: Batches.
        batch_size: Images of each; at most all training images.
        num_eigenvalues: Of each batch's Hessian; those that are positive are averaged.
    """

    num_batches: Count
    batch_size: Count
    num_eigenvalues: Count


class SharpnessConfig(Frozen):
    """What is measured from the final weights.

    The last seven are settings of single measures.

    Args:
        measures: List of the measures, ``[top5,trace]``.
        num_examples: Fixed, un-augmented training images, at most; all when there are fewer.
        weights: ``last`` epoch's or ``best`` validation accuracy's.
        tolerance: Error of each eigenvalue to reach, relative to the largest.
        max_hvps: Hessian-vector products after which what was reached is reported as it is.
        seed: Of everything that is drawn: starting vectors, probes, noise, directions.
        physical_batch_size: Images per micro-batch; changes memory and speed, not the value.
        trace: Of ``trace``, ``ggn_trace`` and ``fisher_trace``.
        spectral_density: Of ``spectral_density``.
        worst_case: Of the four balls.
        average_case: Of ``average_case`` and ``adaptive_average_case``.
        sam_gap: Of ``sam_gap``.
        landscape: Of ``landscape_1d`` and ``landscape_2d``.
        empirical_sam: Of ``empirical_sam``.
        args: Arguments of measures of one's own, by the measure's name.
    """

    measures: Annotated[tuple[str, ...], Field(strict=False)]
    num_examples: Count
    weights: Literal["last", "best"]
    tolerance: Positive
    max_hvps: Count
    seed: Seed
    physical_batch_size: Count
    trace: TraceConfig
    spectral_density: SpectralDensityConfig
    worst_case: WorstCaseConfig
    average_case: AverageCaseConfig
    sam_gap: SamGapConfig
    landscape: LandscapeConfig
    empirical_sam: EmpiricalSamConfig
    args: Arguments = NO_ARGUMENTS

    def fitted(self, num_train: int) -> SharpnessConfig:
        """The same, asking for no more images than there are.

        Args:
            num_train: Training images.
        """
        num_examples = min(self.num_examples, num_train)
        most = {"empirical_sam": num_train, "worst_case": num_examples, "sam_gap": num_examples}
        sections = {}
        for name, number in most.items():
            section = getattr(self, name)
            batch_size = min(section.batch_size, number)
            sections[name] = section.model_copy(update={"batch_size": batch_size})
        return self.model_copy(update={"num_examples": num_examples, **sections})
