"""``hydra/sweeper=samsweep``; Hydra accepts sweepers from this namespace alone."""

from samsweep.hydra_config.sweeper import PlanSweeper


class SamsweepSweeper(PlanSweeper):
    """Plans a grid as a whole, and runs its unfinished cells with the launcher."""
