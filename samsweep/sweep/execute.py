"""A launch from the plan to the exit status, whatever runs it and whatever is asked of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from samsweep.config import ConfigError
from samsweep.sweep.estimate import Prepared
from samsweep.sweep.plan import Plan, describe_states
from samsweep.sweep.plan_table import print_plan
from samsweep.system.text import counted

log = logging.getLogger(__name__)


class Runner(Protocol):
    """What runs a plan: a pool on this machine, jobs on a cluster, another launcher of Hydra's."""

    fail_fast: bool

    def prepare(self, plan: Plan, *, download: bool = True, estimate: bool = True) -> Prepared:
        """Make sure that the cells can run, and estimate the cost.

        Args:
            plan: Of which at least one cell is not finished.
            download: Whether to download data sets that are missing.
            estimate: Whether to estimate the cost.

        Raises:
            ConfigError: If something that the cells need is not available.
        """
        ...

    def run(self, plan: Plan, prepared: Prepared) -> bool:
        """Run the cells that are not finished; the results are in their records.

        Returns:
            Whether all cells have been run; False if they go on after this returns.
        """
        ...

    def scripts(self, plan: Plan) -> Iterable[str]:
        """The batch scripts that would be submitted, if any."""
        ...


def execute(
    plan: Plan, runner: Runner, *, dry_run: bool, print_results: Callable[[], None]
) -> None:
    """Print the plan and, unless this is a dry run, run it; then the results, also after failures.

    Raises:
        SystemExit: With status 1 unless every cell is finished in the end.
    """
    if not (plan.to_do or plan.elsewhere):
        print_plan(plan)
        if not dry_run:
            print_results()
        return
    prepared = runner.prepare(plan, download=not dry_run)
    print_plan(plan, prepared)
    if dry_run:
        for script in runner.scripts(plan):
            print(script)
        return
    done = True
    try:
        done = runner.run(plan, prepared)
    except ConfigError:
        # Refused before anything ran.
        done = False
        raise
    finally:
        if done:
            print_results()
    if done:
        _check_all_finished(plan)


def _check_all_finished(plan: Plan) -> None:
    """End with status 1 if a cell is not finished, and log what helps."""
    now = plan.again()
    unfinished = [*now.to_do, *now.elsewhere]
    if not unfinished:
        return
    for study in now.studies:
        members = [cell for cell in unfinished if cell.folder.study == study]
        if members:
            log.error(
                "%s of study %s not finished: %s. What went wrong: "
                "samsweep status study=%s --failed. The same command retries them.",
                counted(len(members), "cell"),
                study.name,
                describe_states(members),
                study.name,
            )
    raise SystemExit(1)
