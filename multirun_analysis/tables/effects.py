"""Effects for people: their names, their numbers as text, and pages of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from multirun_analysis.references import about
from multirun_analysis.runs.values import LOG
from multirun_analysis.stats.effects import EFFECTS, SIMPLE_EFFECTS
from multirun_analysis.stats.families import CONFIRMATORY
from multirun_analysis.tables.entries import MISSING, notes
from multirun_analysis.tables.pages import Page, Section
from multirun_analysis.wording.metrics import scored_by
from multirun_analysis.wording.numbers import decimals_of, interval_text, number, p_text, signed
from samsweep.config import MEASURES

#: What an effect compares, for the rows of a table.
EFFECT_LABELS: Mapping[str, str] = {
    "magnitude_minus_direction": "M − D: SAMMAGNITUDE less SAMDIRECTION",
    "direction": "direction D",
    "magnitude": "magnitude M",
    "interaction": "interaction I",
    "direction_at_sgd_magnitude": "direction, at SGD's magnitude",
    "direction_at_sam_magnitude": "direction, at SAM's magnitude",
    "magnitude_at_sgd_direction": "magnitude, at SGD's direction",
    "magnitude_at_sam_direction": "magnitude, at SAM's direction",
}
#: Outcomes with their units.
OUTCOME_LABELS: Mapping[str, str] = {
    "test_accuracy": "test accuracy (percentage points)",
    "best_test_accuracy": "test accuracy at best validation (percentage points)",
    "train_loss": "training loss (nats)",
    "generalization_gap": "generalisation gap, training less test accuracy (percentage points)",
    "val_accuracy": "validation accuracy (percentage points)",
    "log_directional_curvature": "ln of the curvature along g",
    "test_loss": "test loss (nats)",
    "log_lambda_max": "ln lambda_max",
    "weight_norm": "weight norm",
    "log_sharpness": "ln of the published sharpness",
}
GRANULARITY_LABELS: Mapping[str, str] = {
    "element": "element-wise",
    "tensor": "per-tensor",
    "global": "global",
}
READING_LABELS: Mapping[str, str] = {
    "by_name": "by the names of the published rows",
    "as_coded": "by what the published code computes",
}

_LEGEND = (
    "Each number is the mean over seeds of a contrast within a seed, with a 95 % t interval; BCa "
    "is the bootstrap over whole seeds, from 8 seeds on. The intervals are not adjusted for their "
    "number. At equal fit: the same contrast of what a regression on the training loss, its square "
    "and the seeds leaves of the outcome, over all cells of SGD, SAM and hybrids of the recipe and "
    "model; the training loss may be a mediator, so that a contrast that vanishes there refutes "
    "nothing. p is that of the two-sided sign-flip test (exact up to 16 seeds). Confirmatory tests "
    "were named by the study's preset and are adjusted together (Holm); all others are exploratory "
    "and adjusted together for the false discovery rate (BH, Benjamini-Hochberg); both counts "
    "include planned tests without a result. Seeds without all values of a contrast are left out "
    "and counted: if cells diverge, the numbers speak only of the seeds that did not. Simple "
    "effects are shown where the interaction is significant, or is larger than half the larger "
    f"main effect. {MISSING}: no seed has all values."
)
_PUBLISHED_LEGEND = (
    "Single values, without seeds: these are point contrasts without intervals or tests. "
    f"{MISSING}: a number that the contrast needs was not published."
)

Row = Mapping[Any, Any]


# --------------------------------------------------------------------------- of a study


def effects_page(effects: pd.DataFrame, name: str = "effects") -> Page:
    """The contrasts of a study, a table for each outcome and design."""
    return Page(
        name=name,
        title="Direction or magnitude: the 2x2 design, paired by seed",
        legend=_LEGEND,
        sections=tuple(_sections(effects)),
        data=effects,
    )


def _sections(effects: pd.DataFrame) -> Iterator[Section]:
    for _, recipe in effects.groupby("recipe_key", sort=False):
        yield Section(heading=recipe["recipe"].iloc[0])
        keys = ["outcome", "settings_key", "ascent", "eta", "scaled", "granularity"]
        for _, rows in recipe.groupby(keys, sort=False, dropna=False):
            yield Section(heading=design_title(rows.iloc[0]), level=3, table=_table(rows))


def outcome_label(row: Row | pd.Series[Any]) -> str:
    """A row's outcome with its unit, by the name of its recipe's metric."""
    label, metric = _plain_label(str(row["outcome"])), row.get("metric", "accuracy")
    if metric == "accuracy":
        return label
    # Another metric is of another loss than the cross-entropy, whose unit is the nat.
    bare = label.replace(" (percentage points)", "").replace(" (nats)", "")
    return bare.replace("accuracy", scored_by([metric]).label)


def _plain_label(outcome: str) -> str:
    """An outcome by its label, that of its measure, or as the user names it."""
    if outcome in OUTCOME_LABELS:
        return OUTCOME_LABELS[outcome]
    bare = outcome.removeprefix(LOG)
    label = OUTCOME_LABELS.get(bare) or (MEASURES[bare].label if bare in MEASURES else "") or bare
    return label if bare == outcome else f"ln {label.partition(' (')[0]}"


def design_title(row: Row | pd.Series[Any]) -> str:
    """Outcome, measurement, granularity and ascent in words."""
    parts = [outcome_label(row)]
    if not pd.isna(row["settings_label"]):
        parts.append(str(row["settings_label"]))
    parts.append(f"{GRANULARITY_LABELS[row['granularity']]} granularity")
    if row["ascent"] == "adaptive":
        scaled = ", unscaled norms" * bool(pd.isna(row["scaled"]))
        parts.append(f"adaptive ascent, eta {number(row['eta'])}{scaled}")
    return ", ".join(parts)


def _table(effects: pd.DataFrame) -> pd.DataFrame:
    shown = ~effects["effect"].isin(SIMPLE_EFFECTS) | effects["interaction_large"]
    return pd.DataFrame(map(table_row, effects[shown].to_dict("records")), dtype="object")


def table_row(row: Row) -> dict[str, str]:
    """An effect's row of a table; ``??`` where no seed has all values."""
    return {
        "effect": EFFECT_LABELS[row["effect"]],
        "model": row["model"],
        "rho": number(row["rho"]),
        **statistics_row(row),
    }


def statistics_row(row: Row) -> dict[str, str]:
    """A contrast's numbers; ``??`` where no seed has all values."""
    found = row["n"] > 0
    return {
        "mean [95 % t]": interval_text(row) if found else MISSING,
        "[95 % BCa]": _bca_text(row),
        "median": signed(row["median"], decimals_of(row)) if found else MISSING,
        "at equal fit [95 % t]": _fit_text(row),
        "p": p_text(row["p"]) if found else MISSING,
        "p adjusted": _adjusted_text(row) if found else MISSING,
        "seeds": ", ".join([str(row["n"]), *notes(row)]),
    }


def _adjusted_text(row: Row) -> str:
    how = "Holm" if row["family"] == CONFIRMATORY else "BH"
    return f"{p_text(row['p_adjusted'])} ({how}, {row['family_size']})"


def _fit_text(row: Row) -> str:
    """The contrast at equal training loss; blank where there are too few cells to adjust."""
    fit = {"estimate": row["fit_estimate"], "t_low": row["fit_low"], "t_high": row["fit_high"]}
    return "" if pd.isna(fit["estimate"]) else interval_text(fit)


def _bca_text(row: Row) -> str:
    if pd.isna(row["bca_low"]):
        return ""
    low, high = (signed(row[end], decimals_of(row)) for end in ("bca_low", "bca_high"))
    return f"[{low}, {high}]"


# --------------------------------------------------------------------------- beside the design

_CURVATURE_LEGEND = (
    "SGDHESS less SGD of the same seed: mean over seeds with a 95 % t interval. rho is the factor "
    "of the curvature term. p is that of the two-sided sign-flip test (exact up to 16 seeds), of "
    "each test alone: these are exploratory, and p is adjusted for no number of them."
)
_MATCHED_LEGEND = (
    "SAMMAGNITUDE less SAMDIRECTION of the same seed, each in its first epoch whose training loss "
    "is at or below a level that all seeds of both reach: mean over seeds with a 95 % t interval. "
    "The loss is the mean over an epoch's mini-batches, augmented and on the way. The epochs "
    "differ, and with them the learning rate: this compares two trainings on their way, not their "
    "ends. Only what histories hold can be matched: the largest eigenvalue and the test accuracy "
    "are taken at the end. The curvature along g is that of mini-batches at w. p is that of the "
    "two-sided sign-flip test, of each test alone: these are exploratory."
)


#: Title and legend of each page.
_CONTRAST_PAGES = {
    "sgdhess_effects": ("SGDHESS less SGD, paired by seed", _CURVATURE_LEGEND),
    "matched": ("Magnitude less direction at equal training loss", _MATCHED_LEGEND),
}


def contrast_page(name: str, effects: pd.DataFrame, recipes: Mapping[str, str]) -> Page:
    """What SGDHESS changes against SGD, or the headline at equal loss: a table per outcome.

    Args:
        name: ``sgdhess_effects`` or ``matched``.
        effects: Frame of :func:`.curvature_effects` or of :func:`.matched_effects`.
        recipes: Title of each recipe by its key.
    """
    title, legend = _CONTRAST_PAGES[name]
    sections = []
    for key, recipe in effects.groupby("recipe_key", sort=False):
        sections.append(Section(heading=recipes[str(key)]))
        by = ["outcome", "settings_label"] if "settings_label" in recipe else ["outcome"]
        for _, rows in recipe.groupby(by, sort=False, dropna=False):
            measured = rows.iloc[0].get("settings_label")
            heading = outcome_label(rows.iloc[0])
            heading = heading if pd.isna(measured) else f"{heading}, {measured}"
            table = pd.DataFrame(map(_contrast_row, rows.to_dict("records")), dtype="object")
            sections.append(Section(heading=heading, level=3, table=table))
    return Page(name=name, title=title, legend=legend, sections=tuple(sections), data=effects)


def _contrast_row(row: Row) -> dict[str, str]:
    design = (
        {"curvature": row["curvature"], "rho": number(row["rho"])}
        if "curvature" in row
        else {
            "granularity": GRANULARITY_LABELS[row["granularity"]],
            "ascent": row["ascent"],
            "rho": number(row["rho"]),
            "training loss": f"{row['level']:.3f}",
            "epoch, SAMDIRECTION": f"{row['epoch_samdirection']:.1f}",
            "epoch, SAMMAGNITUDE": f"{row['epoch_sammagnitude']:.1f}",
        }
    )
    return {
        "model": row["model"],
        **design,
        "mean [95 % t]": interval_text(row),
        "p": p_text(row["p"]),
        "seeds": str(row["n"]),
    }


# --------------------------------------------------------------------------- published


def published_page(published: pd.DataFrame) -> Page:
    """What published tables support, under both readings of the hybrids' names."""
    sections = [
        Section(
            heading=f"{OUTCOME_LABELS[str(outcome)]}, {READING_LABELS[str(reading)]}",
            table=_published_table(table),
        )
        for (reading, outcome), table in published.groupby(["reading", "outcome"], sort=False)
    ]
    return Page(
        name="published_effects",
        title="Direction or magnitude, from published single values",
        legend=_PUBLISHED_LEGEND,
        sections=(Section(heading="Source", text=about(published)), *sections),
        data=published,
    )


def _published_table(table: pd.DataFrame) -> pd.DataFrame:
    """Model and effect by rho."""
    main = table[~table["effect"].isin(SIMPLE_EFFECTS)]
    texts = main.assign(
        text=[MISSING if pd.isna(e) else signed(e, 2) for e in main["estimate"]],
        effect=pd.Categorical(main["effect"], list(EFFECTS)).rename_categories(EFFECT_LABELS),
        rho=[f"rho={number(rho)}" for rho in main["rho"]],
    )
    rows = texts.groupby(["model", "effect"], sort=False, observed=True)
    return pd.DataFrame(
        [
            {"model": model, "effect": effect, **dict(zip(row["rho"], row["text"], strict=True))}
            for (model, effect), row in rows
        ],
        dtype="object",
    ).fillna("")
