"""What the effects of a study allow to say, one sentence per model, outcome and effect.

A sentence is made from the numbers alone and never says more than: under granularity γ, on model A
at these radii, swapping X changed Y by Δ [interval], n seeds. A change is claimed where the
adjusted p is at most 0.05. Elsewhere it is *not told apart from zero*, which is no claim that
there is none; and where the seeds are too few for the family of tests to find anything, the
sentence says how many more there must be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from multirun_analysis.stats.effects import DESIGN, HEADLINE, SIMPLE_EFFECTS
from multirun_analysis.stats.paired import ALPHA
from multirun_analysis.study import Study
from multirun_analysis.tables.effect_tables import (
    GRANULARITY_LABELS,
    OUTCOME_LABELS,
    design_title,
    lost_notes,
)
from multirun_analysis.tables.gaps import blocks, more_seeds_command
from multirun_analysis.tables.pages import Page, Section
from multirun_analysis.wording.numbers import interval_text, number, p_text
from samsweep.system.text import counted

Verdict = Literal["told apart", "not told apart", "too few seeds"]
Row = Mapping[Any, Any]

#: What is swapped.
_SWAPS: Mapping[str, str] = {
    "magnitude_minus_direction": (
        "taking SAM's magnitude in place of SAM's direction (SAMMAGNITUDE less SAMDIRECTION)"
    ),
    "direction": "taking SAM's direction in place of SGD's (averaged over both magnitudes)",
    "magnitude": "taking SAM's magnitude in place of SGD's (averaged over both directions)",
    "interaction": (
        "taking SAM's magnitude in place of SGD's beside SAM's direction rather than beside "
        "SGD's (the interaction)"
    ),
    "direction_at_sgd_magnitude": "taking SAM's direction in place of SGD's (at SGD's magnitude)",
    "direction_at_sam_magnitude": "taking SAM's direction in place of SGD's (at SAM's magnitude)",
    "magnitude_at_sgd_direction": "taking SAM's magnitude in place of SGD's (at SGD's direction)",
    "magnitude_at_sam_direction": "taking SAM's magnitude in place of SGD's (at SAM's direction)",
}

#: What one conclusion is about.
_SUBJECT = (
    "recipe_key",
    "settings_key",
    "outcome",
    "ascent",
    "eta",
    "scaled",
    "granularity",
    "effect",
    "model",
)

_LEGEND = (
    "Brackets are 95 % t intervals, each on its own; adjusted p are those of sign-flip tests after "
    "correction for the tests of their family. Not told apart from zero is no claim that there is "
    "no change. Simple effects are told of where the interaction is told apart from zero."
)


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """A sentence, and what it is about.

    Args:
        recipe_key: Of the training recipe.
        recipe: Its title.
        settings_key: Of the measurement; None for outcomes of training.
        design: Outcome, granularity and ascent in words.
        model: Of the cells.
        outcome: One of :data:`.OUTCOMES`.
        granularity: Of direction and magnitude.
        effect: A key of :data:`.EFFECTS`.
        verdicts: By radius.
        seeds_more: How many more seeds the family of tests needs to be able to find anything.
        command: What runs these; None if none are needed or the runs are not known.
        sentence: Plain text.
    """

    recipe_key: str
    recipe: str
    settings_key: str | None
    design: str
    model: str
    outcome: str
    granularity: str
    effect: str
    verdicts: Mapping[float, Verdict]
    seeds_more: int
    command: str | None
    sentence: str


def conclusions(effects: pd.DataFrame, runs: pd.DataFrame | None = None) -> list[Conclusion]:
    """A sentence for each effect on each outcome, of each model and design.

    Args:
        effects: Frame of :func:`.estimate_effects`.
        runs: The runs that it comes from; with them, conclusions carry the command for more seeds.

    Returns:
        In the order of ``effects``; simple effects only at radii where the interaction is told
        apart from zero.
    """
    commands = None if runs is None else _Commands(runs)
    subjects: dict[tuple[object, ...], list[Row]] = {}
    for row in effects[_worth_telling(effects)].to_dict("records"):
        subjects.setdefault(_values(row, _SUBJECT), []).append(row)
    return [_conclusion(rows, commands) for rows in subjects.values()]


def answer(study: Study) -> tuple[str, ...]:
    """A sentence for each outcome: what swapping direction and magnitude changed."""
    found = conclusions(study.effects, study.runs)
    return tuple(one.sentence for one in found if one.effect == HEADLINE)


def conclusions_page(found: Sequence[Conclusion]) -> Page:
    """The sentences of a study, by recipe and design, and the commands that more seeds need.

    Args:
        found: Of :func:`conclusions`.
    """
    return Page(
        name="conclusions",
        title="What the numbers allow to say",
        legend=_LEGEND,
        sections=tuple(_sections(found)),
        data=pd.DataFrame([_data_row(conclusion) for conclusion in found]),
    )


# --------------------------------------------------------------------------- one conclusion


class _Commands:
    """Commands for more seeds, each made once: all outcomes of a design share it.

    Args:
        runs: Frame of :func:`.load_runs`.
    """

    def __init__(self, runs: pd.DataFrame) -> None:
        self._blocks = blocks(runs)
        self._made: dict[tuple[object, ...], str] = {}

    def of(self, row: Row, more: int) -> str:
        """The command that gives the design of an effect so many more seeds."""
        key = (*_values(row, ("effect", *DESIGN)), more)
        if key not in self._made:
            block = self._blocks[row["recipe_key"], row["model"]]
            self._made[key] = more_seeds_command(block, row, more)
        return self._made[key]


def _values(row: Row, names: Iterable[str]) -> tuple[object, ...]:
    """A row's values as a key: all that are absent are equal."""
    return tuple(None if pd.isna(row[name]) else row[name] for name in names)


def _worth_telling(effects: pd.DataFrame) -> pd.Series[bool]:
    """Main effects, and simple ones where the interaction is told apart from zero."""
    keys = [key for key in _SUBJECT if key != "effect"] + ["rho"]
    point = effects.groupby(keys, dropna=False, sort=False).ngroup()
    interacting = (effects["effect"] == "interaction") & (effects["p_adjusted"] <= ALPHA)
    return ~effects["effect"].isin(SIMPLE_EFFECTS) | point.isin(point[interacting])


def _conclusion(rows: Sequence[Row], commands: _Commands | None) -> Conclusion:
    first = rows[0]
    verdicts = {row["rho"]: verdict(row) for row in rows}
    more = max((_seeds_more(row) for row in rows), default=0)
    return Conclusion(
        **{key: first[key] for key in ("recipe_key", "recipe", "model", "outcome", "effect")},
        granularity=first["granularity"],
        settings_key=None if pd.isna(first["settings_key"]) else first["settings_key"],
        design=design_title(first),
        verdicts=verdicts,
        seeds_more=more,
        command=commands.of(first, more) if more and commands is not None else None,
        sentence=_sentence(rows),
    )


def verdict(row: Row) -> Verdict:
    """What a test allows to say.

    Args:
        row: Of :func:`.estimate_effects`.
    """
    if not pd.isna(row["p_adjusted"]) and row["p_adjusted"] <= ALPHA:
        return "told apart"
    return "not told apart" if row["n"] >= row["seeds_needed"] else "too few seeds"


def _seeds_more(row: Row) -> int:
    return int(row["seeds_needed"] - row["n"]) if verdict(row) == "too few seeds" else 0


# --------------------------------------------------------------------------- sentences


def _sentence(rows: Sequence[Row]) -> str:
    told, not_told, too_few = (
        [row for row in rows if verdict(row) == kind]
        for kind in ("told apart", "not told apart", "too few seeds")
    )
    swap, outcome = _SWAPS[rows[0]["effect"]], OUTCOME_LABELS[rows[0]["outcome"]]
    clauses = [f"{swap} changed {outcome} by {_told(told)}"] if told else []
    for some, text in ((not_told, _not_told), (too_few, _too_few)):
        if some:
            subject = "elsewhere a change" if clauses else f"a change of {outcome} by {swap}"
            clauses.append(f"{subject} {text(some)}")
    radii = _radii([row["rho"] for row in rows])
    return f"{_where(rows[0])} at rho {radii}, {'; '.join([*clauses, *_left_out(rows)])}."


def _where(row: Row) -> str:
    ascent = f" and adaptive ascent (eta {number(row['eta'])})" * (row["ascent"] == "adaptive")
    trained = f"{row['dataset']}, {counted(int(row['epochs']), 'epoch')}"
    granularity = GRANULARITY_LABELS[row["granularity"]]
    return f"Under {granularity} granularity{ascent}, on {row['model']} ({trained})"


def _told(rows: Sequence[Row]) -> str:
    turning = len({row["estimate"] > 0 for row in rows}) > 1
    p = _p_range(rows, "≤", max)
    return f"{_estimates(rows)} ({_seeds(rows)}, {p})" + ", the sign turning with rho" * turning


def _not_told(rows: Sequence[Row]) -> str:
    p = _p_range(rows, "≥", min)
    return f"was not told apart from zero: {_estimates(rows)} ({_seeds(rows)}, {p})"


def _too_few(rows: Sequence[Row]) -> str:
    """With the numbers there are, and what is lacking to test them."""
    seen = [row for row in rows if row["n"]]
    unseen = [row["rho"] for row in rows if not row["n"]]
    there = [f"{_estimates(seen)} ({_seeds(seen)})"] if seen else []
    there += [f"no complete seed at {_radii(unseen)}"] if unseen else []
    size, needed = int(rows[0]["family_size"]), rows[0]["seeds_needed"]
    family = f"a family of {size} tests" if size > 1 else "one test"
    more = max(_seeds_more(row) for row in rows)
    return (
        f"cannot be told apart from zero yet: {', '.join(there)}, where {family} needs "
        f"{needed} seeds, {more} more"
    )


def _p_range(rows: Sequence[Row], bound: str, end: Callable[[Iterable[float]], float]) -> str:
    values = {row["p_adjusted"] for row in rows}
    return f"adjusted p {'=' if len(values) == 1 else bound} {p_text(end(values))}"


def _left_out(rows: Sequence[Row]) -> Iterator[str]:
    lost = [
        f"{', '.join(lost_notes(row))} at {number(row['rho'])}" for row in rows if row["n_lost"]
    ]
    if lost:
        yield f"seeds left out: {_listed(lost)}"
    doubtful = [row["rho"] for row in rows if row["n_unconverged"]]
    if doubtful:
        yield f"not all eigenvalues converged at {_radii(doubtful)}"


def _estimates(rows: Sequence[Row]) -> str:
    return _listed([f"{interval_text(row)} at {number(row['rho'])}" for row in rows])


def _seeds(rows: Sequence[Row]) -> str:
    counts = sorted({int(row["n"]) for row in rows})
    if len(counts) == 1:
        return counted(counts[0], "seed")
    return f"{counts[0]} to {counts[-1]} seeds"


def _radii(rhos: Sequence[float]) -> str:
    """``0.1``, ``0.1 and 0.2``, ``0.1 to 0.4``."""
    shown = [number(rho) for rho in sorted(rhos)]
    return f"{shown[0]} to {shown[-1]}" if len(shown) > 2 else " and ".join(shown)


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


# --------------------------------------------------------------------------- pages


def _sections(found: Iterable[Conclusion]) -> Iterator[Section]:
    by_recipe: dict[str, list[Conclusion]] = {}
    for conclusion in found:
        by_recipe.setdefault(conclusion.recipe_key, []).append(conclusion)
    for group in by_recipe.values():
        yield Section(heading=group[0].recipe)
        by_design: dict[str, list[str]] = {}
        for conclusion in group:
            by_design.setdefault(conclusion.design, []).append(conclusion.sentence)
        for design, sentences in by_design.items():
            yield Section(heading=design, level=3, text=tuple(sentences))
        commands = dict.fromkeys(c.command for c in group if c.command is not None)
        if commands:
            yield Section(heading="The seeds that are lacking", level=3, text=tuple(commands))


def _data_row(conclusion: Conclusion) -> dict[str, object]:
    verdicts = {number(rho): verdict for rho, verdict in conclusion.verdicts.items()}
    return {
        **{key: value for key, value in vars(conclusion).items() if key != "verdicts"},
        "verdicts": ", ".join(f"{rho}: {verdict}" for rho, verdict in verdicts.items()),
    }
