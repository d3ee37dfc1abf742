"""Where in its training a step is: what decides by it is given a :class:`TrainingStep`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Length:
    """How long a training is.

    Args:
        steps_per_epoch: Optimizer steps of an epoch.
        epochs: How many.
    """

    steps_per_epoch: int
    epochs: int

    @property
    def steps(self) -> int:
        """All optimizer steps."""
        return self.steps_per_epoch * self.epochs


@dataclass(frozen=True)
class TrainingStep:
    """Where in its training a step is.

    Args:
        step: Steps taken before it.
        lr_share: Its learning rate, relative to the one that the optimizer was made with.
        length: Of the whole training; None where nobody said.
    """

    step: int
    lr_share: float = 1.0
    length: Length | None = None

    @property
    def progress(self) -> float:
        """Share of the training that is done, in [0, 1).

        Raises:
            ValueError: If the training's length is not known.
        """
        return self.step / self._known.steps

    @property
    def epoch(self) -> float:
        """Epochs that are done.

        Raises:
            ValueError: If the training's length is not known.
        """
        return self.step / self._known.steps_per_epoch

    @property
    def _known(self) -> Length:
        if self.length is None:
            raise ValueError("this depends on the training's length: give length=Length(...)")
        return self.length
