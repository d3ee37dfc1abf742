"""A launch from the plan to the exit status, whatever launches it and whatever is asked of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from samsweep.config import ConfigError
from samsweep.sweep.local.launcher import Outlook
from samsweep.sweep.plan import Plan, describe_states, plan_sweep
from samsweep.sweep.plan_table import tell
from samsweep.system.text import counted

log = logging.getLogger(__name__)


class PlanRunner(Protocol):
    """What runs a plan."""

    def look_ahead(self, plan: Plan, *, prepare: bool) -> Outlook:
        """Make sure that the cells can run, and tell what they will cost."""
        ...

    def show(self, plan: Plan) -> None:
        """Print what a dry run has to tell beside the plan."""
        ...

    def launch_plan(self, plan: Plan, outlook: Outlook) -> bool:
        """Run what is not finished; whether the cells have been worked through."""
        ...


def carry_out(
    plan: Plan, launcher: PlanRunner, *, dry_run: bool, show_results: Callable[[], None]
) -> None:
    """Tell what there is to do and, unless this is a dry run, do it.

    Args:
        plan: What there is to do, perhaps nothing.
        launcher: What does it.
        dry_run: Whether to end with the plan.
        show_results: Prints what came out, also after failures.

    Raises:
        SystemExit: With status 1 unless every cell is finished in the end.
    """
    if not (plan.to_do or plan.elsewhere):
        tell(plan)
        show_results()
        return
    outlook = launcher.look_ahead(plan, prepare=not dry_run)
    tell(plan, outlook)
    if dry_run:
        launcher.show(plan)
        return
    done = True
    try:
        done = launcher.launch_plan(plan, outlook)
    except ConfigError:
        # Refused before anything ran.
        done = False
        raise
    finally:
        if done:
            show_results()
    if done:
        _check_all_finished(plan)


def _check_all_finished(plan: Plan) -> None:
    """End with status 1 if a cell is not finished, saying what to do about it."""
    left = plan_sweep(point for cell in plan.cells for point in cell.points)
    unfinished = [*left.to_do, *left.elsewhere]
    if not unfinished:
        return
    for study in dict.fromkeys(cell.run.study for cell in unfinished):
        members = [cell for cell in unfinished if cell.run.study == study]
        log.error(
            "%s of study %s not finished: %s. What went wrong: "
            "python -m samsweep.status study=%s --failed. The same command tries them again.",
            counted(len(members), "cell"),
            study,
            describe_states(members),
            study,
        )
    raise SystemExit(1)
