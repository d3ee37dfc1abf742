"""Which tests answer the question, named beforehand, and how each p is adjusted.

A study's preset names its confirmatory tests under ``analysis.confirmatory``: outcomes,
granularities and radii. These are one family, in which Holm's correction bounds the probability of
any false finding. Every other test is exploratory: Benjamini and Hochberg's correction bounds the
expected share of false findings among those called significant. A study without such a preset has
no confirmatory tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from multirun_analysis.stats.paired import benjamini_hochberg, holm, seeds_needed
from samsweep.config import AnalysisOptions, Confirmatory, conf_dir

CONFIRMATORY, EXPLORATORY = "confirmatory", "exploratory"


def confirmatory_of(study: str, config_dir: Path | str | None = None) -> Confirmatory | None:
    """What the preset of a study, one whose ``study`` it is, names beforehand.

    Presets of a folder of options beside ``conf/`` go first.

    Raises:
        ConfigError: If a preset names it in a form that cannot be read.
    """
    own = [] if config_dir is None else [Path(config_dir)]
    for folder in [*own, conf_dir()]:
        for file in sorted((folder / "experiment").glob("*.yaml")):
            values = _preset(file)
            named = values.get("analysis")
            if values.get("study") == study and named is not None:
                return AnalysisOptions.parse(named, prefix="analysis.").confirmatory
    return None


def _preset(file: Path) -> dict[str, Any]:
    """A preset's keys, on top of those of the presets that it builds on."""
    own = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    values: dict[str, Any] = {}
    for parent in own.get("defaults", []):
        if isinstance(parent, str) and parent != "_self_":
            values |= _preset(file.with_name(f"{parent}.yaml"))
    return values | own


def with_families(effects: pd.DataFrame, plan: Confirmatory | None) -> pd.DataFrame:
    """Each test's family, and its p adjusted in it; a p of NaN, of a test yet to come, counts.

    Returns:
        The same with ``family``, ``p_adjusted``, ``family_size`` and ``seeds_needed``: the least
        seeds with which the family can find anything.
    """
    chosen = _chosen(effects, plan)
    family = np.where(chosen, CONFIRMATORY, EXPLORATORY)
    parts = [
        _adjusted(rows, plan if name == CONFIRMATORY else None)
        for (_, name), rows in effects.groupby(["recipe_key", family], sort=False)
    ]
    columns = ["p_adjusted", "family_size", "seeds_needed"]
    found = pd.concat(parts) if parts else pd.DataFrame(columns=columns, dtype="float64")
    return effects.assign(family=family, **{name: found[name] for name in columns})


def _chosen(effects: pd.DataFrame, plan: Confirmatory | None) -> pd.Series[bool]:
    if plan is None:
        return pd.Series(False, index=effects.index)
    return (
        effects["effect"].isin(plan.effects)
        & effects["outcome"].isin(plan.outcomes)
        & effects["granularity"].isin(plan.granularities)
        & effects["rho"].isin(plan.rhos)
        & (effects["ascent"] == "plain")
    )


def _adjusted(rows: pd.DataFrame, plan: Confirmatory | None) -> pd.DataFrame:
    p = rows["p"].to_numpy(dtype=float)
    if plan is None:
        size, needed, adjusted = len(p), seeds_needed(1), benjamini_hochberg(p)
    else:
        # Tests of which no cell is there yet count too: running them must not change the others.
        size = max(len(p), plan.num_tests * rows["model"].nunique())
        padded = np.append(p, np.full(size - len(p), np.nan))
        needed, adjusted = seeds_needed(size), holm(padded)[: len(p)]
    columns = {"p_adjusted": adjusted, "family_size": size, "seeds_needed": needed}
    return pd.DataFrame(columns, index=rows.index)
