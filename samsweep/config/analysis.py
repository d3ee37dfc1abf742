"""What a study's preset says of its analysis."""

from __future__ import annotations

import math
from typing import Annotated

from samsweep.config.components import Granularity
from samsweep.config.fields import EachOnce, Frozen, Listed, NonNegative, one_of

#: What the analysis computes of each network, and a preset may name beforehand.
OUTCOMES = (
    "test_accuracy",
    "best_test_accuracy",
    "log_lambda_max",
    "train_loss",
    "generalization_gap",
    "test_loss",
    "weight_norm",
)

#: What it compares networks by, likewise.
CONTRASTS = (
    "magnitude_minus_direction",
    "direction",
    "magnitude",
    "interaction",
    "direction_at_sgd_magnitude",
    "direction_at_sam_magnitude",
    "magnitude_at_sgd_direction",
    "magnitude_at_sam_direction",
)

OutcomeName = Annotated[str, one_of("outcome", OUTCOMES)]
ContrastName = Annotated[str, one_of("effect", CONTRASTS)]


class Confirmatory(Frozen):
    """The tests that a study names beforehand: every combination of these.

    Args:
        outcomes: Outcomes of the confirmatory tests.
        granularities: Granularities of the confirmatory tests.
        rhos: Radii of the confirmatory tests.
        effects: Contrasts of the confirmatory tests.
    """

    outcomes: Annotated[tuple[OutcomeName, ...], Listed, EachOnce]
    granularities: Annotated[tuple[Granularity, ...], Listed, EachOnce]
    rhos: Annotated[tuple[NonNegative, ...], Listed, EachOnce]
    effects: Annotated[tuple[ContrastName, ...], Listed, EachOnce] = ("magnitude_minus_direction",)

    @property
    def num_tests(self) -> int:
        """Tests of one model."""
        parts = (self.outcomes, self.granularities, self.rhos, self.effects)
        return math.prod(len(part) for part in parts)


class AnalysisOptions(Frozen):
    """What a preset fixes of the analysis; no part of any cell's identity.

    Args:
        confirmatory: The tests that a study names beforehand.
    """

    confirmatory: Confirmatory
