"""Options that do not fit the data or each other: one sentence for each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from samsweep.config.components import BASES, DIRECTIONS, MEASURES, TRACKERS, DataInfo
from samsweep.config.errors import unknown_name

if TYPE_CHECKING:
    from samsweep.config.options import Options


def conflicts_of(options: Options, info: DataInfo) -> Iterable[str]:
    """What does not fit of options that are each valid.

    Args:
        options: The composed configuration.
        info: Description of its data set.
    """
    yield from _of_classes(options, info)
    yield from _of_batch_size(options, info)
    yield from _of_augmentation(options, info)
    yield from _of_task(options, info)
    yield from _of_loss_args(options)
    yield from _of_measures(options)
    yield from _of_warmup(options)
    yield from _of_base_args(options)
    yield from _of_unused_arguments(options)
    yield from _of_clipping(options)
    yield from _of_nesterov(options)
    yield from _of_groups(options)
    if options.opt.perturbs:
        yield from _of_ascent(options)


def _of_classes(options: Options, info: DataInfo) -> Iterable[str]:
    if info.is_classification and info.num_outputs < 2:
        yield (
            f"dataset={options.dataset.name} has a single class, from which nothing can be learnt: "
            "give at least two, or values to regress (floats) with loss=mse metric=r2."
        )


def _of_batch_size(options: Options, info: DataInfo) -> Iterable[str]:
    if options.batch_size > info.num_train:
        yield (
            f"batch_size={options.batch_size} is larger than the {info.num_train} training "
            f"examples of {options.dataset.name}: choose between 2 and {info.num_train}."
        )


def _of_augmentation(options: Options, info: DataInfo) -> Iterable[str]:
    name, augment, size = options.dataset.name, options.dataset.augment, info.image_size
    if size is not None and augment.cutout > size:
        yield (
            f"dataset.augment.cutout={augment.cutout} is larger than the "
            f"{size}x{size} images of {name}: choose between 0 and {size}."
        )
    if augment.changes_images and info.input_dtype != "uint8":
        yield (
            f"dataset.augment: {name} has no raw images (uint8) to change: "
            "turn crop_padding, flip, cutout, policy and cutmix off."
        )
    if augment.mixup and info.input_dtype.startswith("int"):
        yield f"dataset.augment.mixup={augment.mixup}: {name} has ids, which cannot be mixed."


def _of_task(options: Options, info: DataInfo) -> Iterable[str]:
    """What is of classes for values to regress, and the other way round."""
    name, label_noise = options.dataset.name, options.dataset.label_noise
    if not info.is_classification:
        if options.loss == "cross_entropy" or options.metric == "accuracy":
            yield (
                f"{name} has values to regress, not classes: set loss=mse metric=r2, or others "
                "that fit."
            )
        if label_noise:
            yield f"dataset.label_noise={label_noise}: {name} has no classes."
    elif options.loss == "mse" or options.metric in ("r2", "mae"):
        yield (
            f"loss={options.loss} metric={options.metric}: {name} has classes, not values to "
            "regress: set loss=cross_entropy metric=accuracy, or others that fit; labels to "
            "regress are floats."
        )


def _of_loss_args(options: Options) -> Iterable[str]:
    """Arguments of the loss that are keys of their own, or that make it no mean."""
    if "reduction" in options.loss_args and options.loss_args["reduction"] != "mean":
        value = options.loss_args["reduction"]
        yield f"loss_args.reduction={value}: a mean is trained and measured, leave it out."
    if "label_smoothing" in options.loss_args and options.loss == "cross_entropy":
        value = options.loss_args["label_smoothing"]
        yield (
            f"loss_args.label_smoothing={value}: label_smoothing is a key of its own, "
            f"set label_smoothing={value}."
        )
    if options.loss != "cross_entropy" and options.label_smoothing:
        yield (
            f"label_smoothing={options.label_smoothing} is of loss=cross_entropy: "
            f"leave it out with loss={options.loss}, or give that loss its own by loss_args."
        )


def _of_measures(options: Options) -> Iterable[str]:
    """Measures that are of no such loss."""
    if options.loss == "cross_entropy" and not (options.loss_args or options.label_smoothing):
        return
    for name in options.sharpness.measures:
        if MEASURES.find(name).of_plain_cross_entropy:
            yield (
                f"sharpness.measures: {name} is of plain cross-entropy, without smoothing or other "
                "arguments: leave it out, or measure lambda_max and trace, which are of any loss."
            )


def _of_warmup(options: Options) -> Iterable[str]:
    if options.warmup_epochs >= options.epochs:
        yield (
            f"warmup_epochs={options.warmup_epochs:g} leaves nothing of epochs={options.epochs}: "
            f"choose less than {options.epochs}."
        )


def _of_base_args(options: Options) -> Iterable[str]:
    """Arguments of the base optimizer that have a key at the top level."""
    own = ["lr", "weight_decay", *(["nesterov"] if options.base == "sgd" else [])]
    own += ["momentum"] if BASES.find(options.base).uses_momentum else []
    for key, value in options.base_args.items():
        if key in own:
            yield f"base_args.{key}={value}: {key} is a key of its own, set {key}={value}."


def _of_unused_arguments(options: Options) -> Iterable[str]:
    """Arguments of what is not there."""
    opt, augment, tracking = options.opt, options.dataset.augment, options.tracking
    own_tracker = not TRACKERS.find(tracking.name, tracking.factory).ours
    for key, args, is_used, user in (
        ("opt.args", opt.args, opt.is_whole_step, "an opt that is an optimizer of its own"),
        ("opt.combination_args", opt.combination_args, opt.combination, "an opt.combination"),
        ("dataset.augment.policy_args", augment.policy_args, augment.policy, "a policy"),
        ("tracking.args", tracking.args, own_tracker, "a tracker of one's own"),
    ):
        if args and not is_used:
            yield f"{key} ({', '.join(args)}) have no effect without {user}: leave them out."
    if opt.is_whole_step:
        for key, field in type(opt).model_fields.items():
            value = getattr(opt, key)
            # What is set over another option has that one's direction and magnitude.
            used = ("factory", "name", "args", "direction", "magnitude")
            if key not in used and value != field.default:
                yield (
                    f"opt.{key}={value} has no effect on opt={opt.name}, which is an optimizer of "
                    "its own: leave it out, or give it arguments by opt.args."
                )
    for name in options.sharpness.args:
        if name not in (*MEASURES, *options.sharpness.measures):
            yield unknown_name("sharpness.args", name, (*options.sharpness.measures, *MEASURES))


def _of_clipping(options: Options) -> Iterable[str]:
    clips_gradient = options.clip_norm is not None and options.clip == "gradient"
    if clips_gradient and options.opt.is_whole_step:
        yield (
            f"clip=gradient: the gradients of opt={options.opt.name} are its own, "
            "choose clip=combined."
        )


def _of_nesterov(options: Options) -> Iterable[str]:
    if options.nesterov and not (options.base == "sgd" and options.momentum > 0):
        yield (
            f"nesterov=true needs base=sgd with a momentum, not base={options.base} with "
            f"momentum={options.momentum:g}."
        )


def _of_groups(options: Options) -> Iterable[str]:
    if options.groups and options.no_decay_on_norm:
        yield (
            "no_decay_on_norm=true with groups: say in these which have weight_decay=0, and leave "
            "no_decay_on_norm out."
        )
    if options.lr == 0 and any(group.lr is not None for group in options.groups):
        yield "lr=0: a group's lr is relative to it, choose more than 0."
    has_own_rho = any(group.rho is not None for group in options.groups)
    if options.opt.perturbs and has_own_rho and options.rho == 0:
        yield "rho=0: a group's rho is relative to it, choose more than 0."


def _of_ascent(options: Options) -> Iterable[str]:
    """What does not go together of how SAM ascends."""
    opt = options.opt
    direction = DIRECTIONS.find(opt.ascent_direction)
    if opt.m is not None and options.batch_size % opt.m:
        yield (
            f"opt.m={opt.m} does not divide batch_size={options.batch_size}: choose a number that "
            "does."
        )
    if opt.m is not None and options.parts_at_once > 1:
        # torch.func.vmap takes no compiled network, and no batch norm of mixed types.
        taken = {
            "compile=true": options.compile,
            "precision=bfloat16": options.precision != "float32",
            "opt.same_draws=true": opt.same_draws,
        }
        for other in (key for key, is_so in taken.items() if is_so):
            yield (
                f"parts_at_once={options.parts_at_once} with {other}: parts are then passes one "
                "after the other, leave one of them out."
            )
    if opt.m is not None and not direction.takes_parts:
        yield (
            f"opt.ascent_direction={opt.ascent_direction} is one of the whole mini-batch, or of "
            f"earlier ones, not of parts of opt.m={opt.m} examples: leave one of them out."
        )
    if opt.ascent_steps > 1 and opt.ascent_direction != "gradient":
        yield (
            f"opt.ascent_steps={opt.ascent_steps}: each step ascends along the gradient where it "
            f"starts, not opt.ascent_direction={opt.ascent_direction}: leave one of them out."
        )
    if opt.when == "epochs":
        yield from _of_epochs(options)
    reuse = opt.when_args.get("reuse") if opt.when == "every" else None
    is_hybrid = (opt.direction, opt.magnitude) != ("sam", "sam")
    if reuse and (opt.combination is not None or is_hybrid):
        yield (
            f"opt.when_args.reuse={reuse} puts a part of SAM's h to g between the steps that "
            f"ascend, which opt={opt.name} hands on in another way: choose reuse=0, or opt=looksam."
        )
    if opt.ascent_direction == "momentum" and not _has_momentum(options):
        yield (
            f"opt.ascent_direction=momentum: base={options.base} keeps none"
            f"{' with momentum=0' if options.base == 'sgd' else ''}: choose base=sgd with a "
            "momentum, adam or adamw."
        )


def _of_epochs(options: Options) -> Iterable[str]:
    """Bounds with which no step would ascend, or all would."""
    args, epochs = options.opt.when_args, options.epochs
    first, last = args.get("first") or 0, args.get("last")
    if not isinstance(first, int | float) or not isinstance(last, int | float | None):
        return
    if first >= epochs:
        yield (
            f"opt.when_args.first={first}: no step of epochs={epochs} would ascend, choose less "
            f"than {epochs}."
        )
    elif first <= 0 and (last is None or last >= epochs):
        bound = "no bounds" if last is None else f"opt.when_args.last={last}"
        yield (
            f"opt.when=epochs with {bound}: all steps of epochs={epochs} would ascend, set "
            f"opt.when_args.first above 0 or .last below {epochs}, or opt.when=always."
        )


def _has_momentum(options: Options) -> bool:
    if BASES.find(options.base).uses_momentum:
        return options.momentum > 0
    return options.base not in ("adagrad", "adadelta")
