"""The boundary: what is accepted, what is refused, and in which words."""

import numpy as np
import pytest
from helpers import compose_run

from samsweep.config import VARIANTS, ConfigError, Options, conf_dir, unknown_name


def variant(*overrides):
    return compose_run(*overrides).cell.variant


def test_defaults_are_the_documented_ones():
    run = compose_run()
    assert run.cell.identity() == {
        "model": {"name": "resnet8"},
        "variant": {
            "name": "sam",
            "direction": "sam",
            "magnitude": "sam",
            "rho": 0.1,
            "ascent": "plain",
        },
        "dataset": {
            "name": "digits",
            "augment": {"crop_padding": 1, "flip": False, "cutout": 0},
            "label_noise": 0.4,
        },
        "recipe": {
            "base": "sgd",
            "lr": 0.1,
            "momentum": 0.9,
            "weight_decay": 0.001,
            "lr_schedule": "cosine_per_step",
            "epochs": 40,
            "batch_size": 128,
            "precision": "float32",
        },
        "seed": 0,
    }
    assert run.study == "default"
    assert run.tracking.name == "none"
    assert run.sharpness.measures == ("lambda_max",)
    assert run.sharpness.num_examples == 898


def test_cifar100_alone_is_the_studys_setting():
    cell = compose_run("dataset=cifar100").cell
    identity = cell.identity()
    assert identity["recipe"] == {
        "base": "sgd",
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 0.001,
        "lr_schedule": "cosine_per_epoch",
        "epochs": 200,
        "batch_size": 256,
        "precision": "float32",
    }
    assert identity["dataset"]["augment"] == {
        "crop_padding": 4,
        "flip": True,
        "cutout": 16,
        "cutout_prob": 0.5,
    }
    assert cell.dataset.label_noise == 0


def test_keys_that_an_optimizer_does_not_use_are_no_identity():
    assert variant("opt=sgd", "rho=0.4", "granularity=global") == variant("opt=sgd")
    assert variant("opt=sam", "granularity=global") == variant("opt=sam")
    assert variant("opt=sam", "rho=0.2") != variant("opt=sam")
    assert variant("opt=samdirection", "granularity=global") != variant("opt=samdirection")
    assert compose_run("base=adamw", "momentum=0.5").cell == compose_run("base=adamw").cell


def test_a_hybrid_with_a_name_is_the_same_cell_under_both():
    assert variant("opt=hybrid") == variant("opt=samdirection")
    assert variant("opt=hybrid", "opt.direction=sgd", "opt.magnitude=sam") == variant(
        "opt=sammagnitude"
    )
    assert variant("opt=hybrid", "opt.magnitude=sam") == variant("opt=sam")
    assert variant("opt=hybrid", "opt.direction=sgd") == variant("opt=sgd")
    assert variant("opt=hybrid", "opt.magnitude=sam", "opt.ascent=adaptive") == variant("opt=asam")


@pytest.mark.parametrize(
    ("overrides", "formula"),
    [
        (["opt=sgd"], "g"),
        (["opt=sam"], "h, h = grad(w + epsilon), epsilon = rho * g / ||g||"),
        (["opt=samdirection"], "sign(h) * abs(g), h = grad(w + epsilon), epsilon = "),
        (["opt=sammagnitude"], "sign(g) * abs(h), h = grad(w + epsilon), epsilon = "),
        (["opt=samdirection", "granularity=global"], "h * ||g|| / ||h||, "),
        (["opt=sammagnitude", "granularity=tensor"], "g * ||h_t|| / ||g_t|| per parameter tensor"),
        (["opt=asam"], "h, h = grad(w + epsilon), epsilon = rho * T^2 g / ||T g||"),
        (["opt=sgdhess"], "g + rho * abs(H z) * g"),
        (["opt=sgdhess", "opt.curvature=gauss_newton"], "G Gauss-Newton"),
        (["opt=sgdhess", "opt.curvature=exact"], "g + rho * H g"),
    ],
)
def test_the_formula_is_the_studys_text(overrides, formula):
    assert formula in variant(*overrides).formula


def test_every_named_variant_can_be_chosen():
    assert {variant(f"opt={name}").name for name in (*VARIANTS, "hybrid")} == set(VARIANTS)


#: Presets of one change each, by what they have that plain SAM has not.
FAMILY = {
    "aesam": {"when": "large_gradient"},
    "early_sam": {"when": "epochs"},
    "fsam": {"ascent_direction": "friendly"},
    "gsam": {"combination": "gsam", "rho_schedule": "with_lr"},
    "last_sam": {"ascent_direction": "last_gradient"},
    "late_sam": {"when": "epochs"},
    "looksam": {"when": "every"},
    "m_sam": {"m": 32},
    "msam": {"ascent_direction": "momentum"},
    "per_tensor_sam": {"ascent": "per_tensor"},
    "random_sam": {"ascent_direction": "random"},
    "sam_except_norm": {"perturb": "not_norm_layers"},
    "sam_on": {"perturb": "norm_layers"},
    "saner": {"combination": "saner"},
    "sssam": {"when": "random"},
    "multi_step_sam": {"ascent_steps": 2},
    "unified_sam": {"ascent": "unified"},
    "usam": {"ascent": "unnormalized"},
    "vasso": {"ascent_direction": "average"},
    "wsam": {"combination": "wsam"},
}


def test_every_option_of_the_group_is_tested_here():
    options = {file.stem for file in (conf_dir() / "opt").glob("*.yaml")}
    assert options == {*VARIANTS, "hybrid", "stablesam", *FAMILY}


@pytest.mark.parametrize("name", FAMILY)
def test_a_preset_is_sam_but_for_what_it_changes(name):
    preset, sam = vars(variant(f"opt={name}")), vars(variant("opt=sam"))
    others = {k for k in preset if preset[k] != sam[k] and not k.endswith("_args")} - {"name"}
    assert preset["name"] == name
    assert {key: preset[key] for key in others - {"direction", "magnitude"}} == FAMILY[name]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["opt=sam", "opt.ascent=unnormalized"], ["opt=usam"]),
        (["opt=sam", "opt.perturb=norm_layers"], ["opt=sam_on"]),
        (["opt=hybrid", "opt.magnitude=sam", "opt.m=32"], ["opt=m_sam"]),
        (["opt=sam", "opt.when=epochs", "opt.when_args.last=20"], ["opt=early_sam"]),
        (["opt=sam_on", "opt.when=random", "opt.when_args.probability=0.5"],
         ["opt=sssam", "opt.perturb=norm_layers"]),
        (["opt=asam", "opt.combination=gsam", "opt.ascent=plain", "opt.combination_args.alpha=0.4",
          "opt.rho_schedule=with_lr"], ["opt=gsam"]),
    ],
)  # fmt: skip
def test_equal_trainings_are_one_cell_whatever_their_options_are_called(one, other):
    assert variant(*one) == variant(*other)


def test_two_changes_of_sam_are_named_by_what_they_are():
    found = variant("opt=looksam", "opt.perturb=[bn1.*]")
    assert found.name == "sam"
    assert found.departures == ("perturb bn1.*", "when every(reuse=0.7, steps=5)")
    assert variant("opt=looksam").departures == ()


def test_stablesam_is_the_cell_of_global_samdirection():
    # arXiv 2401.07250: h * ||g|| / ||h||
    assert variant("opt=stablesam") == variant("opt=samdirection", "granularity=global")


@pytest.mark.parametrize(
    "override",
    ["opt.ascent_direction=gradient", "opt.ascent_steps=1", "opt.perturb=all", "opt.when=always",
     "opt.rho_schedule=constant", "opt.m=null"],
)  # fmt: skip
def test_what_plain_sam_has_is_no_part_of_its_identity(override):
    assert variant("opt=sam", override).model_dump() == variant("opt=sam").model_dump()


def test_sgd_has_nothing_of_a_groups_radius():
    groups = "groups=[{params:biases,rho:0.3,perturb:false,lr:0.2},{params:norm_layers,rho:1}]"
    kept = compose_run("opt=sgd", groups).cell.recipe.groups
    assert [group.model_dump(exclude_none=True) for group in kept] == [
        {"params": "biases", "lr": 0.2}
    ]


def test_sgd_has_nothing_of_how_sam_ascends():
    assert variant("opt=sgd", "opt.when=every", "opt.m=3") == variant("opt=sgd")


@pytest.mark.parametrize(
    ("overrides", "passes"),
    [
        (["opt=sgd"], 1),
        (["opt=sam"], 2),
        (["opt=sgdhess"], 3),
        (["opt=sam", "opt.ascent_steps=3"], 4),
        (["opt=looksam"], 1.2),
        (["opt=sssam"], 1.5),
        (["opt=msam"], 1),
        (["opt=random_sam"], 1),
        (["opt=random_sam", "opt.when=every", "opt.when_args={steps:5,reuse:0}"], 1),
        # The rule for g and h needs g as well.
        (["opt=samdirection", "opt.ascent_direction=random"], 2),
        (["opt=random_sam", "opt.when=large_gradient"], 1.5),
    ],
)
def test_the_passes_of_a_step_are_counted(overrides, passes):
    assert variant(*overrides).passes == passes


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["opt=sam", "opt.m=60"], ["opt.m=60", "batch_size"]),
        (["opt=fsam", "opt.m=32"], ["friendly", "opt.m=32"]),
        (
            ["opt=sam", "opt.m=32", "parts_at_once=2", "compile=true"],
            ["parts_at_once=2", "compile=true"],
        ),
        (
            ["opt=sam", "opt.m=32", "parts_at_once=2", "precision=bfloat16"],
            ["parts_at_once=2", "precision=bfloat16"],
        ),
        (["opt=vasso", "opt.ascent_steps=2"], ["opt.ascent_steps=2", "average"]),
        (["opt=msam", "momentum=0"], ["momentum=0", "base=sgd"]),
        (["opt=sam", "opt.perturb=norm_layer"], ["norm_layer", "did you mean 'norm_layers'"]),
        (["opt=sam", "groups=[{params:norm_layer,rho:1}]"], ["norm_layer", "'norm_layers'"]),
        (["opt=sam", "groups=[{params:biases,rh:1}]"], ["groups.0.rh", "rho"]),
        (["opt=sam", "groups=[{params:biases,rho:1}]", "rho=0"], ["rho=0", "group"]),
        (["lr=0", "groups=[{params:biases,lr:1}]"], ["lr=0", "group"]),
        (["no_decay_on_norm=true", "groups=[{params:biases,lr:1}]"], ["no_decay_on_norm"]),
        (["opt=late_sam", "epochs=20"], ["opt.when_args.first=20", "epochs=20"]),
        (["opt=early_sam", "epochs=20"], ["opt.when_args.last=20", "all steps", "opt.when=always"]),
        (["opt=sam", "opt.when=epochs"], ["no bounds", "opt.when_args.first"]),
        (["opt=msam", "opt.m=32"], ["momentum", "opt.m=32"]),
        (["opt=last_sam", "opt.m=32"], ["last_gradient", "opt.m=32"]),
        (
            ["opt=wsam", "opt.when=every", "opt.when_args.reuse=0.5"],
            ["reuse=0.5", "opt=wsam", "reuse=0"],
        ),
        (
            ["opt=samdirection", "opt.when=every", "opt.when_args.reuse=0.5"],
            ["reuse=0.5", "opt=samdirection"],
        ),
        (["opt=sam", "opt.perturb=[]"], ["perturb", "at least one"]),
        (["opt=sam", "opt.when=evry"], ["evry", "did you mean 'every'"]),
        (["opt=sam", "opt.when_args.steps=2"], ["when_args", "always"]),
    ],
)
def test_what_does_not_go_together_is_refused(overrides, words):
    with pytest.raises(ConfigError) as refused:
        variant(*overrides)
    assert all(word in str(refused.value) for word in words)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+typo=1", "key 'typo' is unknown: choose one of analysis, base, base_args"),
        ("+dataset.agument=1", "key 'dataset.agument' is unknown: did you mean 'dataset.augment'"),
        ("rho=-1", "rho=-1: should be greater than or equal to 0."),
        ("rho=abc", "rho=abc: should be a valid number."),
        ("rho=.inf", "rho="),
        ("granularity=globl", "granularity=globl: should be 'element', 'tensor' or 'global'."),
        ("batch_size=1000", "batch_size=1000 is larger than the 898 training examples of digits"),
        ("batch_size=1", "batch_size=1: should be greater than or equal to 2."),
        ("epochs=0", "epochs=0: should be greater than or equal to 1."),
        ("epochs=2.5", "epochs=2.5: should be a valid integer."),
        ("seed=true", "seed=True: should be a valid integer."),
        ("seed=-1", "seed=-1: should be greater than or equal to 0."),
        ("momentum=1", "momentum=1: should be less than 1."),
        ("base=adamv", "base=adamv: base optimizer 'adamv' is unknown: did you mean 'adam"),
        ("study=../elsewhere", "study=../elsewhere: should be a folder name .*, not a path."),
        ("device=gpu", "device=gpu: should be auto, cpu, cuda or cuda:1."),
        ("model.name=resnet9", "did you mean 'resnet8'"),
        (
            "+analysis={confirmatory: {outcomes: [accuracy], granularities: [global], rhos: [1]}}",
            "outcome 'accuracy' is unknown: .*choose one of best_test_accuracy",
        ),
        ("dataset.augment.cutout=9", "cutout=9 is larger than the 8x8 images of digits"),
        ("sharpness.measures=[lambda]", "sharpness.measures: measure 'lambda' is unknown: did"),
        ("+dataset.path=/tmp", "dataset.path=/tmp has no effect|dataset.path"),
        (
            "+dataset.recipe.typo=1",
            "key 'dataset.recipe.typo' is unknown: did you mean 'dataset.recipe.epochs'?",
        ),
        ("+dataset.augment.typo=1", "key 'dataset.augment.typo' is unknown"),
        ("opt.direction=up", "opt.direction=up: should be 'sgd' or 'sam'."),
    ],
)
def test_a_wrong_value_is_told_with_what_is_allowed(override, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        compose_run(override)


def test_all_problems_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        compose_run("rho=-1", "epochs=0", "+typo=1")
    assert len(caught.value.problems) == 3


def test_curvature_excludes_mixing():
    with pytest.raises(ConfigError, match="curvature=exact transforms the plain gradient"):
        compose_run("opt=sam", "+opt.curvature=exact")


def test_sgdhess_needs_a_curvature():
    with pytest.raises(ConfigError, match="sgdhess needs a curvature: hutchinson"):
        compose_run("opt=sgdhess", "opt.curvature=null")


def test_values_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        compose_run().cell.seed = 3


def test_options_mirror_the_yaml():
    """No key of conf/config.yaml is unknown to the schema, and none of the schema is missing."""
    import yaml

    top = set(yaml.safe_load((conf_dir() / "config.yaml").read_text())) - {"defaults", "hydra"}
    groups = {"model", "opt", "dataset", "sharpness", "tracking"}
    assert top | groups == set(Options.model_fields)


def test_unknown_name_without_a_near_one_gives_no_hint():
    assert unknown_name("opt", "zzz", ["sam"]) == "opt 'zzz' is unknown: choose one of sam."


# ------------------------------------------------------------------ keys of a recipe

#: With what it needs; and what stands in the identity because of it.
KEYS = {
    "label_smoothing": (["label_smoothing=0.1"], {"label_smoothing": 0.1}),
    "nesterov": (["nesterov=true"], {"nesterov": True}),
    "warmup_epochs": (["warmup_epochs=2"], {"warmup_epochs": 2.0}),
    "clip_norm": (["clip_norm=1"], {"clip_norm": 1.0, "clip": "combined"}),
    "clip": (["clip_norm=1", "clip=gradient"], {"clip_norm": 1.0, "clip": "gradient"}),
    "no_decay_on_norm": (["no_decay_on_norm=true"], {"no_decay_on_norm": True}),
    "ema": (["ema=0.99"], {"ema": 0.99}),
    "groups": (
        ["groups=[{params:norm_layers,weight_decay:0},{params:['fc.*'],lr:0.2,perturb:false}]"],
        {
            "groups": [
                {"params": "norm_layers", "weight_decay": 0.0},
                {"params": ["fc.*"], "lr": 0.2, "perturb": False},
            ]
        },
    ),
    "schedule": (
        ["lr_schedule=step", "lr_schedule_args.gamma=0.2"],
        {"lr_schedule": "step", "lr_schedule_args": {"gamma": 0.2}},
    ),
    "base": (
        ["base=adamw", "base_args.betas=[0.9,0.3]"],
        {"base": "adamw", "base_args": {"betas": [0.9, 0.3]}, "momentum": None},
    ),
}


@pytest.mark.parametrize("name", KEYS)
def test_a_key_is_in_the_identity_when_it_is_used(name):
    overrides, more = KEYS[name]
    plain = compose_run().cell.identity()
    recipe = {**plain["recipe"], **more}
    recipe = {key: value for key, value in recipe.items() if value is not None}
    assert compose_run(*overrides).cell.identity() == {**plain, "recipe": recipe}


@pytest.mark.parametrize(
    "override",
    [
        *("label_smoothing=0", "nesterov=false", "warmup_epochs=0", "clip_norm=null"),
        *("clip=gradient", "no_decay_on_norm=false", "ema=null", "ema=0", "loss=cross_entropy"),
        *("metric=accuracy", "base_args={}", "lr_schedule_args={}"),
        *("groups=[]", "groups=[{params:biases}]"),
        *("dataset.augment.policy=null", "dataset.augment.mixup=null", "dataset.train_fraction=1"),
    ],
)
def test_what_is_not_used_is_no_identity(override):
    assert compose_run(override).cell.identity() == compose_run().cell.identity()


@pytest.mark.parametrize(
    ("key", "argument"),
    [
        ("dataset.augment.policy_args", "num_ops"),
        ("opt.combination_args", "alpha"),
        ("opt.args", "alpha"),
        ("tracking.args", "alpha"),
        ("sharpness.args", "no_such_measure"),
    ],
)
def test_arguments_of_what_is_not_there_are_refused(key, argument):
    with pytest.raises(ConfigError) as refused:
        compose_run(f"++{key}={{{argument}: {{}}}}")
    assert key in str(refused.value)
    assert argument in str(refused.value)


def test_what_no_machine_could_finish_is_refused():
    for override in ("epochs=100000000000000000000000", "+dataset.image_size=100000"):
        with pytest.raises(ConfigError, match=override.strip("+").partition("=")[0]):
            compose_run(override)


def test_without_weight_decay_no_layer_is_spared():
    assert (
        compose_run("weight_decay=0", "no_decay_on_norm=true").cell
        == compose_run("weight_decay=0").cell
    )


@pytest.mark.parametrize(
    "key", ["mixup=0.2", "cutmix=1.0", "policy=randaugment", "policy=trivialaugment"]
)
def test_changes_to_batches_are_in_the_identity(key):
    name, _, value = key.partition("=")
    plain = compose_run().cell.identity()["dataset"]["augment"]
    found = compose_run(f"dataset.augment.{key}").cell.identity()["dataset"]["augment"]
    assert found == plain | {name: value if name == "policy" else float(value)}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["warmup_epochs=5", "epochs=5"],
            "warmup_epochs=5 leaves nothing of epochs=5: choose less",
        ),
        (["warmup_epochs=-1"], "warmup_epochs=-1: should be greater than or equal to 0."),
        (["nesterov=true", "momentum=0"], "nesterov=true needs base=sgd with a momentum, not"),
        (["nesterov=true", "base=adamw"], "nesterov=true needs base=sgd .* not base=adamw"),
        (
            ["label_smoothing=0.1", "loss=torch.nn.functional.nll_loss"],
            "label_smoothing=0.1 is of loss",
        ),
        (["label_smoothing=1.5"], "label_smoothing=1.5: should be less than or equal to 1."),
        (["loss_args.label_smoothing=0.1"], "set label_smoothing=0.1."),
        (["loss=mse"], "loss=mse metric=accuracy: digits has classes, not values to regress"),
        (["metric=r2"], "loss=cross_entropy metric=r2: digits has classes"),
        (["ema=1"], "ema=1: should be less than 1."),
        (["ema=-0.1"], "ema=-0.1: should be greater than or equal to 0."),
        (["clip_norm=0"], "clip_norm=0: should be greater than 0."),
        (["clip_norm=inf"], "clip_norm=inf: should be a finite number."),
        (["clip=both"], "clip=both: should be 'combined' or 'gradient'."),
        (["base_args.momentum=0.5"], "momentum is a key of its own, set momentum=0.5."),
        (["dataset.augment.mixup=0"], "dataset.augment.mixup=0: should be greater than 0."),
        (["dataset.augment.policy=autoaugmnt"], "policy: augmentation 'autoaugmnt' is unknown"),
        (["opt=asam", "opt.ascent_args.power=2"], "ascent_args have no effect on ascent=adaptive"),
        (["lr_schedule=cosine"], "lr_schedule 'cosine' is unknown: choose one of constant"),
        (["lr_schedule_args.x=nan"], "must be finite"),
        (["pruner=medain"], "pruner 'medain' is unknown: did you mean 'median'.* choose one of"),
        (["pruner_args.n_warmup_steps=1"], "pruner_args .n_warmup_steps. have no effect without"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message) as caught:
        compose_run(*overrides)
    assert len(caught.value.problems) == 1


IDS, NUMBERS = np.arange(40).reshape(20, 2) % 7, np.linspace(0, 1, 40).reshape(20, 2)
CLASSES = np.arange(20) % 3


@pytest.mark.parametrize(
    ("inputs", "labels", "override", "message"),
    [
        (IDS, CLASSES, "dataset.augment.mixup=0.2", "mixup=0.2: arrays has ids, which cannot be"),
        (IDS, CLASSES, "dataset.augment.cutmix=1.0", "arrays has no raw images .* to change"),
        (NUMBERS, CLASSES, "dataset.augment.cutmix=1.0", "arrays has no raw images"),
        (NUMBERS, CLASSES, "dataset.augment.policy=randaugment", "arrays has no raw images"),
        (NUMBERS, CLASSES, "loss=mse", "arrays has classes, not values to regress"),
        (NUMBERS, NUMBERS, "metric=r2", "arrays has values to regress, not classes: set loss=mse"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(inputs, labels, override, message, tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x_train=inputs, y_train=labels, x_test=inputs, y_test=labels)
    off = ["crop_padding=0", "flip=false", "cutout=0"]
    data = ["dataset=image_folder", "dataset.name=arrays", f"dataset.path={path}", "batch_size=4"]
    data += ["dataset.image_size=null", *(f"dataset.augment.{key}" for key in off)]
    with pytest.raises(ConfigError, match=message):
        compose_run(*data, override)


def test_numbers_of_arguments_are_rounded_in_the_identity():
    args = "base_args.betas=[0.30000000000000004,0.9]"
    cell = compose_run("base=adamw", args).cell
    assert cell == compose_run("base=adamw", "base_args.betas=[0.3,0.9]").cell
    assert cell.identity()["recipe"]["base_args"] == {"betas": [0.3, 0.9]}
    assert hash(cell) == hash(compose_run("base=adamw", "base_args.betas=[0.3,0.9]").cell)


def test_a_single_class_is_refused(tmp_path):
    inputs = np.random.default_rng(0).normal(size=(40, 5))
    file = tmp_path / "one.npz"
    np.savez(
        file, x_train=inputs, y_train=np.zeros(40, int), x_test=inputs, y_test=np.zeros(40, int)
    )
    with pytest.raises(ConfigError, match="a single class"):
        compose_run("dataset=arrays", f"dataset.path={file}", "batch_size=16")
