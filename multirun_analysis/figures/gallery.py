"""Every figure of a study, with its caption and a text in its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from multirun_analysis.figures.ablation import ablation_pictures
from multirun_analysis.figures.array_figures import array_pictures
from multirun_analysis.figures.captions import Picture, Recipe, listed, not_drawn, slug
from multirun_analysis.figures.effects import HEADLINE, MAIN, SIMPLE, forest
from multirun_analysis.figures.epochs import (
    AMPLIFIED,
    LEARNING,
    PERTURBATION,
    STEP,
    epoch_summary,
    layer_cosines,
    left_out,
    over_epochs,
)
from multirun_analysis.figures.panels import models_of
from multirun_analysis.figures.rho import (
    BEST_TEST_ACCURACY,
    SHARPNESS,
    TEST_ACCURACY,
    Outcome,
    against_rho,
)
from multirun_analysis.figures.scatter import scatter
from multirun_analysis.figures.style import Palette
from multirun_analysis.runs.measurements import of_largest_eigenvalue
from multirun_analysis.stats.factor import Factor
from multirun_analysis.stats.summary import LOST, join_measurements, split_by_recipe, summarize
from multirun_analysis.study import Study
from multirun_analysis.wording.numbers import number
from samsweep.records.store import atomic_path

# --------------------------------------------------------------------------- public


def draw_figures(study: Study, effects: pd.DataFrame | None = None) -> dict[str, Picture]:
    """Every figure of a study that there are data for, by its name, in reading order."""
    palette = Palette(study.runs)
    epochs = epoch_summary(study.history, study.runs)
    pictures = [
        picture
        for recipe in _recipes(study)
        for picture in (
            *_effect_pictures(recipe, effects),
            *_rho_pictures(recipe, palette),
            *array_pictures(recipe, study, palette),
            *_epoch_pictures(recipe, epochs, palette),
        )
    ]
    return {picture.name: picture for picture in pictures}


def draw_ablation(study: Study, effects: pd.DataFrame, factor: Factor) -> dict[str, Picture]:
    """Every level of a factor against its reference, by the figure's name."""
    return {picture.name: picture for picture in ablation_pictures(study, effects, factor)}


def write_figures(pictures: Mapping[str, Picture], folder: Path) -> list[Path]:
    """Write each picture as PNG and SVG; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for picture in pictures.values():
        for suffix, content in (("png", picture.png), ("svg", picture.svg)):
            path = folder / f"{picture.name}.{suffix}"
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
            written.append(path)
    return written


# --------------------------------------------------------------------------- recipes


def _recipes(study: Study) -> list[Recipe]:
    measured = join_measurements(study.runs, of_largest_eigenvalue(study.measurements))
    split = split_by_recipe(study.runs)
    return [
        Recipe(
            title,
            f"-{runs['recipe_key'].iloc[0]}" if len(split) > 1 else "",
            title if len(split) > 1 else "",
            runs,
            measured[measured["cell_id"].isin(runs["cell_id"])],
        )
        for title, runs in split
    ]


def _by_settings(rows: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Suffix, label and rows of each measurement that gives the largest eigenvalue."""
    having = rows[rows["lambda_max"].notna()]["settings_key"]
    groups = rows[rows["settings_key"].isin(having)].groupby("settings_label")
    return [
        (f"-{slug(group['settings_key'].iloc[0])}" * (len(groups) > 1), str(label), group)
        for label, group in groups
    ]


# --------------------------------------------------------------------------- pictures


def _rho_pictures(recipe: Recipe, palette: Palette) -> Iterator[Picture]:
    settings = _by_settings(recipe.measured)
    yield from _outcome(
        recipe, recipe.runs, TEST_ACCURACY, palette, "accuracy_rho", "Test accuracy, last epoch"
    )
    for suffix, label, rows in settings:
        name = f"sharpness_rho{suffix}"
        yield from _outcome(recipe, rows, SHARPNESS, palette, name, "Sharpness", label, suffix)
    for name, x, y, title, caption in _SCATTERS:
        for suffix, label, rows in settings:
            yield from recipe.picture(
                f"{name}{suffix}",
                title,
                scatter(rows, palette, x, y),
                f"{caption} every point is one trained network. The marker is the optimizer's, "
                f"the shade rho: the darker, the larger.{_not_positive(rows)}",
                f"{title}. {_alt_scatter(rows)}",
                label=label,
                several_labels=bool(suffix),
            )
    yield from _outcome(
        recipe,
        recipe.runs,
        BEST_TEST_ACCURACY,
        palette,
        "accuracy_best_rho",
        "Test accuracy at best validation",
    )


#: Name, both numbers, title and caption of the figures of points.
_SCATTERS = (
    (
        "accuracy_sharpness",
        "log_lambda_max",
        "test_accuracy",
        "Test accuracy against sharpness, a point per cell",
        "Test accuracy of the last epoch against the natural logarithm of the largest Hessian "
        "eigenvalue;",
    ),
    (
        "sharpness_fit",
        "train_loss",
        "log_lambda_max",
        "Sharpness against training loss, a point per cell",
        "Natural logarithm of the largest Hessian eigenvalue against the training loss of the "
        "last epoch, on images as they are;",
    ),
)


def _outcome(
    recipe: Recipe,
    rows: pd.DataFrame,
    outcome: Outcome,
    palette: Palette,
    name: str,
    title: str,
    label: str = "",
    suffix: str = "",
) -> Iterator[Picture]:
    title = f"{title}, against ρ"
    scale = " The axis is logarithmic." if outcome.log else ""
    lost = int(rows["status"].isin(LOST).sum())
    what = f"diverged or failed{', or were pruned' * bool((rows['status'] == 'pruned').any())}"
    crosses = f" Crosses at the foot: seeds that {what}, {lost} in all." if lost else ""
    yield from recipe.picture(
        name,
        title,
        against_rho(rows, outcome, palette),
        "Every seed is a faint point; beside them mean and one sample standard deviation. SGD is "
        "the dotted line, its standard deviation the grey band, its seeds the faint crosses at "
        f"the left.{scale}{crosses}",
        f"{title}. Means in the order of rho: {_means(rows, outcome)}.",
        label=label,
        several_labels=bool(suffix),
    )


def _epoch_pictures(recipe: Recipe, epochs: pd.DataFrame, palette: Palette) -> Iterator[Picture]:
    here = epochs[epochs["recipe_key"] == recipe.runs["recipe_key"].iloc[0]]
    models = models_of(here)
    seeds = "Means over seeds of complete cells, with bands of one standard deviation."
    title = "Amplified share over the epochs"
    yield from recipe.picture(
        "amplified_share",
        title,
        over_epochs(here, [AMPLIFIED], palette, by_model=True),
        "Share of the gradient's elements that the perturbation makes larger, |h| > |g|; above "
        f"one half, most grow. {seeds}{not_drawn(left_out(here))}",
        f"{title}. {_amplified_ends(here)}",
    )
    for model in models:
        rows = here[here["model"] == model]
        figures = [
            (name, title, over_epochs(rows, curves, palette), caption, _ALT_CURVES)
            for name, curves, title, caption in _CURVES
        ]
        figures.append((*_LAYERS[:2], layer_cosines(rows), *_LAYERS[2:]))
        for name, title, figure, caption, alt in figures:
            yield from recipe.picture(
                name,
                title,
                figure,
                f"{caption} {seeds}{not_drawn(left_out(rows))}",
                alt.format(title=title, model=model),
                model=model,
                several_models=len(models) > 1,
            )


_ALT_CURVES = (
    "{title}: small panels of curves over the epochs, a row per number and a column per radius, of "
    "{model}."
)
_LAYERS = (
    "layer_cosines",
    "Cosine of g and h in each layer",
    "Cosine of the gradients g and h in each weight tensor, from the input at the top to the "
    "output, over the epochs: the brighter, the more alike.",
    "Shades of the cosine of g and h by layer and epoch, of {model}, a panel per optimizer and "
    "radius.",
)
#: Name, numbers, title and caption of the figures of curves.
_CURVES = (
    (
        "learning_curves",
        LEARNING,
        "Learning curves",
        "Loss and accuracy over the epochs. Training numbers are running means over the augmented "
        "mini-batches, validation numbers are taken after the epoch.",
    ),
    (
        "perturbation",
        PERTURBATION,
        "What the perturbation does to the gradient",
        "g is the gradient at w, h the gradient at w + ε: agreement of their signs, their cosine, "
        "the ratio of their norms, the loss gained by the step to w + ε, and the curvature along "
        "g.",
    ),
    (
        "step",
        STEP,
        "What the optimizer is handed",
        "d is the vector handed to the base optimizer: its cosines with g and with h, norms of d, "
        "of the gradient g and of the weights w.",
    ),
)


def _effect_pictures(recipe: Recipe, effects: pd.DataFrame | None) -> Iterator[Picture]:
    if effects is None or effects.empty:
        return
    here = effects[effects["recipe_key"] == recipe.runs["recipe_key"].iloc[0]]
    for suffix, rows, label in _designs(here):
        for name, shown, title, caption in _EFFECTS:
            yield from recipe.picture(
                f"{name}{suffix}",
                title,
                forest(rows, shown),
                f"{caption} Lines: 95 % t intervals over seeds; bars at their ends: 95 % BCa "
                "bootstrap intervals, from eight seeds on. Each interval stands alone, and one of "
                "many may miss zero by chance: the adjusted p in the table of effects decides.",
                f"{title}: estimates with intervals. {_estimates(rows, shown)}",
                label=label,
                several_labels=bool(suffix),
            )


#: Name, effects, title and caption of the forests.
_EFFECTS = (
    (
        "effects_headline",
        HEADLINE,
        "Magnitude or direction: M − D",
        "To the right of zero, SAM's magnitude alone gives more of the outcome than SAM's "
        "direction alone. n is the number of seeds, adj. p is of the sign-flip test, adjusted in "
        "its family (Holm for what was named beforehand, else Benjamini-Hochberg). Grey: the same "
        "contrast adjusted for the training loss, which may be a mediator.",
    ),
    (
        "effects_main",
        MAIN,
        "Effects of magnitude and of direction",
        "What swapping SGD's magnitude, or direction, for SAM's changes on average, and by how "
        "much the one depends on the other.",
    ),
    (
        "effects_simple",
        SIMPLE,
        "Simple effects",
        "What swapping one of the two changes while the other is held at SGD's or at SAM's.",
    ),
)


def _designs(effects: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, str]]:
    """Suffix, rows and label of each design and measurement: one figure each.

    Rows without a measurement, of training's outcomes, stand beside those of every measurement.
    """
    unnamed = effects["settings_key"].isna()
    etas = [f", eta {number(eta)}" if pd.notna(eta) else "" for eta in effects["eta"]]
    ascents = effects["ascent"].astype("string") + pd.Series(etas, effects.index, dtype="string")
    unscaled = (effects["ascent"] == "adaptive") & effects["scaled"].isna()
    ascents = ascents.mask(unscaled, ascents + ", unscaled norms")
    names = [str(name) for name in ascents.drop_duplicates()]
    for name in names:
        here = ascents == name
        keys = [*effects.loc[here & ~unnamed, "settings_key"].drop_duplicates()]
        for key in keys or [""]:
            rows = effects[here & (unnamed | (effects["settings_key"] == key))]
            labels = rows["settings_label"].dropna().unique().tolist()
            suffix = f"-{slug(name)}" * (len(names) > 1) + f"-{slug(key)}" * (len(keys) > 1)
            parts = [f"ascent {name}"] * (len(names) > 1) + labels
            yield suffix, rows, "; ".join(parts)


# --------------------------------------------------------------------------- words


def _means(rows: pd.DataFrame, outcome: Outcome) -> str:
    """The drawn means in words, for a figure of few series."""
    summary = summarize(rows, outcome.column)
    summary = summary[summary["n"] > 0]
    several = summary["model"].nunique() > 1
    texts = []
    for _, group in summary.groupby("row_key", sort=False):
        first = group.iloc[0]
        name = [first["model"]] * several + [first["optimizer"]]
        name += [first["granularity"]] * isinstance(first["granularity"], str)
        texts.append(f"{' '.join(name)} {', '.join(f'{mean:.4g}' for mean in group['mean'])}")
    return listed(texts)


def _not_positive(rows: pd.DataFrame) -> str:
    count = int((rows["lambda_max"] <= 0).sum())
    return f" Not drawn: {count} of an eigenvalue that has no logarithm." if count else ""


def _alt_scatter(rows: pd.DataFrame) -> str:
    known = rows[(rows["status"] == "complete") & (rows["lambda_max"] > 0)]
    low, high = known["lambda_max"].min(), known["lambda_max"].max()
    return (
        f"Points of {len(known)} cells: largest eigenvalue from {low:.4g} to {high:.4g}, test "
        f"accuracy from {known['test_accuracy'].min():.4g} to "
        f"{known['test_accuracy'].max():.4g} percent."
    )


def _amplified_ends(summary: pd.DataFrame) -> str:
    known = summary.dropna(subset="amplified_share") if "amplified_share" in summary else summary
    if known.empty:
        return ""
    first = known[known["epoch"] == known["epoch"].min()]["amplified_share"]
    last = known[known["epoch"] == known["epoch"].max()]["amplified_share"]
    return (
        f"Means of the lines from {first.min():.3f} to {first.max():.3f} in the first epoch, from "
        f"{last.min():.3f} to {last.max():.3f} in the last."
    )


def _estimates(effects: pd.DataFrame, shown: Iterable[str]) -> str:
    rows = effects[effects["effect"].isin(list(shown)) & (effects["outcome"] == "test_accuracy")]
    texts = [
        f"{row['model']} {row['granularity']} rho {number(row['rho'])} "
        f"{row['effect'].replace('_', ' ')} {row['estimate']:+.2f}"
        for row in rows.dropna(subset="estimate").head(12).to_dict("records")
    ]
    return f"On test accuracy: {'; '.join(texts)}." if texts else ""
