"""The columns of the frames: their dtypes, what they mean, and in which units.

The dtypes hold whatever the rows, also without any. ``docs/analysis.md`` shows these lists as
tables, and a test keeps the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from samsweep.records.schema import Metrics


class Column(NamedTuple):
    """One column."""

    dtype: str
    meaning: str
    unit: str = ""


#: What a cell is, and whether it has a result.
CELL: Mapping[str, Column] = {
    "cell_id": Column("string", "the cell's id, which is the name of its folder"),
    "study": Column("string", "name of the study"),
    "status": Column(
        "string",
        "planned, running, complete, diverged, failed, interrupted or pruned; see the records",
    ),
    "model": Column("string", "the network, with what varies of it, such as mlp (width 32)"),
    "model_name": Column("string", "its name alone"),
    "optimizer": Column("string", "label of the table row, such as SAMDIRECTION (adaptive)"),
    "variant": Column(
        "string", "sgd, sgdhess, sam, samdirection, sammagnitude, asam, or the name of one's own"
    ),
    "direction": Column(
        "string", "whose direction the update takes: sgd or sam; missing for one's own"
    ),
    "magnitude": Column(
        "string", "whose magnitude the update takes: sgd or sam; missing for one's own"
    ),
    "granularity": Column("string", "element, tensor or global; missing where unused"),
    "rho": Column(
        "float64", "radius of the perturbation; SGDHESS's curvature factor; missing for SGD"
    ),
    "ascent": Column("string", "plain, adaptive or one's own; missing where unused"),
    "eta": Column("float64", "added to abs(w) in the adaptive ascent; missing where unused"),
    "scaled": Column(
        "string", "weights where the adaptive ascent scales norm layers too; missing otherwise"
    ),
    "curvature": Column("string", "SGDHESS's: hutchinson, gauss_newton or exact"),
    "formula": Column("string", "the vector that was handed to the base optimizer"),
    "dataset": Column("string", "the data set"),
    "label_noise": Column("float64", "probability with which a training label was redrawn"),
    "crop_padding": Column("Int64", "zeros on every side before the random crop", "pixels"),
    "flip": Column("boolean", "whether images were mirrored at random"),
    "cutout": Column("Int64", "side of the cutout square; 0 for none", "pixels"),
    "cutout_prob": Column("float64", "probability of the cutout"),
    "image_size": Column("Int64", "side to which an image_folder's images were resized", "pixels"),
    "fingerprint": Column("string", "hash of an image_folder's paths and contents"),
    "base": Column("string", "the torch optimizer underneath"),
    "lr": Column("float64", "peak learning rate"),
    "momentum": Column("float64", "of the base optimizer; missing where it has none"),
    "weight_decay": Column("float64", "of the base optimizer"),
    "lr_schedule": Column("string", "cosine_per_step, cosine_per_epoch or constant"),
    "epochs": Column("Int64", "length of the training", "epochs"),
    "batch_size": Column("Int64", "images per step", "images"),
    "precision": Column("string", "of the passes: float32 or bfloat16"),
    "metric": Column("string", "what a network is scored by: accuracy or another"),
    "results_version": Column("Int64", "version of the training code's results"),
    "seed": Column("Int64", "of initialisation, batch order and augmentation"),
    "identity_without_seed": Column("string", "hash of all but the seed: cells to average over"),
    "row_key": Column("string", "hash of all but seed and rho: one row of a table"),
    "recipe_key": Column(
        "string", "hash of all but model, variant and seed: cells that may share a table"
    ),
}

_METRICS: Mapping[str, Column] = {
    "test_accuracy": Column("float64", "test accuracy, or `metric`, after the last epoch", "%"),
    "test_loss": Column("float64", "test cross-entropy after the last epoch", "nats"),
    "val_accuracy": Column("float64", "validation accuracy after the last epoch", "%"),
    "val_loss": Column("float64", "validation cross-entropy after the last epoch", "nats"),
    "train_accuracy": Column("float64", "on the un-augmented training images", "%"),
    "train_loss": Column("float64", "on the un-augmented training images", "nats"),
    "best_epoch": Column("Int64", "epoch of best validation accuracy, from 1"),
    "best_val_accuracy": Column("float64", "validation accuracy at that epoch", "%"),
    "best_test_accuracy": Column("float64", "test accuracy at that epoch", "%"),
    "best_test_loss": Column("float64", "test cross-entropy at that epoch", "nats"),
    "weight_norm": Column("float64", "Euclidean norm of all trainable parameters"),
}

#: A row per cell: what it is, its results (missing unless it is complete), where they come from.
RUNS: Mapping[str, Column] = {
    **CELL,
    **{name: _METRICS[name] for name in Metrics.model_fields},
    "epochs_done": Column("Int64", "complete epochs so far", "epochs"),
    "seconds": Column("float64", "training and evaluation, all attempts together", "s"),
    "host": Column("string", "machine of the latest attempt"),
    "job_id": Column("string", "Slurm job of the latest attempt"),
    "device": Column("string", "device of the latest attempt"),
    "git_commit": Column("string", "samsweep's commit in the latest attempt"),
    "git_dirty": Column("boolean", "whether the source differed from that commit"),
    "error": Column(
        "string",
        "traceback of a failed cell; where the loss of a diverged one became NaN or inf; why a "
        "pruned one was ended",
    ),
}

#: What decides a measurement's value.
SETTINGS: Mapping[str, Column] = {
    "name": Column("string", "name of the measure, such as lambda_max or trace"),
    "settings_key": Column("string", "name and hash of the settings"),
    "settings_label": Column("string", "the settings that matter, for people"),
}

#: What a measurement found.
VALUES: Mapping[str, Column] = {
    "measurement": Column("string", "key under which the record keeps it"),
    "quantity": Column("string", "what `value` is: the entry of the result that tables show"),
    "value": Column("float64", "the measure's headline number; missing for spectra and landscapes"),
    "lambda_max": Column("float64", "largest eigenvalue of the Hessian of the training loss"),
    "error": Column("float64", "error estimate of an eigenvalue, or standard error of a mean"),
    "error_bound": Column(
        "float64", "of an eigenvalue: some eigenvalue lies within it, rounding allowed for"
    ),
    "converged": Column("boolean", "whether the tolerance was reached"),
    "eigenvalues": Column("object", "list of floats, largest first"),
    "bulk_outlier_ratio": Column("float64", "first by fifth eigenvalue"),
    "num_hvps": Column("Int64", "Hessian-vector products taken"),
    "num_gradients": Column("Int64", "gradients taken, each over all examples"),
    "num_forwards": Column("Int64", "forward passes alone, each over all examples"),
    "loss": Column("float64", "training loss on the examples measured", "nats"),
    "measured_weight_norm": Column("float64", "norm of the weights measured"),
    "measured_seconds": Column("float64", "duration of the measurement", "s"),
    "measured_on": Column("string", "device of the measurement"),
}

#: A row per cell and measurement; ``error`` is the measurement's.
MEASUREMENTS: Mapping[str, Column] = {**CELL, **SETTINGS, **VALUES}

#: A row per cell and epoch. Cosines of single tensors follow as ``layer_cosines.<tensor>``.
HISTORY: Mapping[str, Column] = {
    "cell_id": Column("string", "the cell's id"),
    "epoch": Column("Int64", "from 1"),
    "lr": Column("float64", "learning rate of the epoch's last step"),
    "train_loss": Column("float64", "mean over the epoch's mini-batches", "nats"),
    "train_accuracy": Column("float64", "over the epoch's augmented images", "%"),
    "val_loss": Column("float64", "after the epoch", "nats"),
    "val_accuracy": Column("float64", "after the epoch", "%"),
    "weight_norm": Column("float64", "Euclidean norm of all trainable parameters"),
    "seconds": Column("float64", "duration of the epoch", "s"),
    "grad_norm": Column("float64", "norm of g, the gradient at w"),
    "update_norm": Column("float64", "norm of d, the vector handed to the base optimizer"),
    "amplified_share": Column("float64", "share of elements with abs(h) > abs(g), from 0 to 1"),
    "sign_agreement": Column("float64", "share of elements with g h > 0, from 0 to 1"),
    "cosine": Column("float64", "of g and h, the gradient at w + epsilon"),
    "norm_ratio": Column("float64", "norm of h by norm of g"),
    "sam_gap": Column("float64", "loss at w + epsilon minus loss at w", "nats"),
    "directional_curvature": Column("float64", "of the loss along g, by finite difference"),
    "update_cosine_clean": Column("float64", "of d and g"),
    "update_cosine_perturbed": Column("float64", "of d and h"),
    "update_norm_ratio": Column("float64", "norm of d by norm of h"),
}


def dtypes(columns: Mapping[str, Column]) -> dict[str, str]:
    """The dtype of each column."""
    return {name: column.dtype for name, column in columns.items()}


CELL_COLUMNS: Mapping[str, str] = dtypes(CELL)
RUN_COLUMNS: Mapping[str, str] = dtypes(RUNS)
SETTINGS_COLUMNS: Mapping[str, str] = dtypes(SETTINGS)
VALUE_COLUMNS: Mapping[str, str] = dtypes(VALUES)
MEASUREMENT_COLUMNS: Mapping[str, str] = dtypes(MEASUREMENTS)
HISTORY_COLUMNS: Mapping[str, str] = dtypes(HISTORY)
