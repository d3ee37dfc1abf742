"""The boundary: what is accepted, what is refused, and in which words."""

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
    options = {file.stem for file in (conf_dir() / "opt").glob("*.yaml")}
    assert options == {*VARIANTS, "hybrid"}
    assert {variant(f"opt={name}").name for name in options} == set(VARIANTS)


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
        ("sharpness.measures=[lambda]", "measure 'lambda' is unknown: did you mean 'lambda_max'"),
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
