"""Grids as products, unions, zips and exclusions, against what they are written out as."""

import pytest
from helpers import _composer

from samsweep.config import ConfigError
from samsweep.hydra_config.grid import Grids


def grids(*, strict=True, params=None, grids=(), zip=None, exclude=()):
    composer = _composer()
    return Grids(
        params=params or {},
        grids=grids,
        zip=zip or {},
        exclude=exclude,
        loader=composer._loader,
        compose=composer.config,
        strict=strict,
    )


def points(*arguments, **values):
    return [" ".join(point) for point in grids(**values).points(arguments)]


def refused(*arguments, **values):
    with pytest.raises(ConfigError) as caught:
        points(*arguments, **values)
    return caught.value.problems


def test_a_product_of_all_values():
    assert points("seed=0,1", params={"rho": "0.1,0.2"}) == [
        "rho=0.1 seed=0",
        "rho=0.1 seed=1",
        "rho=0.2 seed=0",
        "rho=0.2 seed=1",
    ]


def test_a_union_of_grids_completed_by_params():
    assert points(params={"seed": "0,1"}, grids=[{"opt": "sgd"}, {"opt": "sam", "seed": "7"}]) == [
        "seed=0 opt=sgd",
        "seed=1 opt=sgd",
        "seed=7 opt=sam",
    ]


@pytest.mark.parametrize(
    "zipped", [{"lr": "0.1,0.05", "seed": "range(0,2)"}, {"lr": [0.1, 0.05], "seed": [0, 1]}]
)
def test_zipped_keys_vary_together_and_go_before_params(zipped):
    assert points("rho=1,2", params={"lr": "0.3,0.4"}, zip=zipped) == [
        "lr=0.1 seed=0 rho=1",
        "lr=0.1 seed=0 rho=2",
        "lr=0.05 seed=1 rho=1",
        "lr=0.05 seed=1 rho=2",
    ]


def test_a_grid_has_a_zip_of_its_own_and_further_exclusions():
    assert points(
        params={"seed": "0,1"},
        zip={"lr": "0.1,0.05", "batch_size": "128,64"},
        exclude=[{"seed": 1}],
        grids=[
            {"opt": "sgd,sam", "exclude": [{"opt": "sam", "lr": 0.05}]},
            {"zip": {"rho": [1, 2], "epochs": [3, 4]}},
        ],
    ) == [
        "seed=0 opt=sgd lr=0.1 batch_size=128",
        "seed=0 opt=sam lr=0.1 batch_size=128",
        "seed=0 opt=sgd lr=0.05 batch_size=64",
        "seed=0 rho=1 epochs=3",
        "seed=0 rho=2 epochs=4",
    ]


def test_the_command_line_goes_before_a_zip():
    zipped = {"lr": "0.1,0.05", "batch_size": "128,64"}
    assert points("lr=1", zip=zipped) == ["lr=1 batch_size=128", "lr=1 batch_size=64"]


def test_arguments_of_components_are_zipped():
    zipped = {"base_args.betas": [[0.9, 0.99], [0.8, 0.9]], "lr": [1, 2]}
    assert points(zip=zipped) == [
        "++base_args.betas=[0.9,0.99] lr=1",
        "++base_args.betas=[0.8,0.9] lr=2",
    ]


@pytest.mark.parametrize(
    ("entry", "left"),
    [
        ({"opt": "sam", "rho": 0.2}, {"sgd 0.1", "sgd 0.2", "sam 0.1"}),
        ({"opt": "sam", "rho": "0.10,0.2"}, {"sgd 0.1", "sgd 0.2"}),
        ({"opt": ["sam"]}, {"sgd 0.1", "sgd 0.2"}),
        # What no override names: an option, a plain value, one of the option's own.
        ({"opt": "sgd", "model": "resnet8"}, {"sam 0.1", "sam 0.2"}),
        ({"opt": "sgd", "seed": 0}, {"sam 0.1", "sam 0.2"}),
        ({"rho": 0.2, "dataset.label_noise": 0.4}, {"sgd 0.1", "sam 0.1"}),
        ({"rho": 0.2, "nesterov": False}, {"sgd 0.1", "sam 0.1"}),
    ],
)
def test_an_exclusion_leaves_out_what_has_all_its_keys(entry, left):
    found = grids(params={"opt": "sgd,sam", "rho": "0.1,0.2"}, exclude=[entry])
    assert {" ".join(o.partition("=")[2] for o in p) for p in found.points([])} == left
    assert found.num_excluded == 4 - len(left)


def test_sums_of_a_range_are_the_numbers_that_are_meant():
    assert points("rho=range(0.1,0.35,0.1)", exclude=[{"rho": 0.3}]) == ["rho=0.1", "rho=0.2"]


def test_unequal_lengths_are_refused():
    assert refused(zip={"lr": "0.1,0.05", "batch_size": 128}) == (
        "zip: keys that vary together need the same number of values, and here are lr 2, "
        "batch_size 1.",
    )


def test_an_exclusion_without_a_point_is_refused():
    exclude = [{"model": "resnet50", "opt": "sam"}, {"modle": "resnet8"}]
    nothing, unknown = refused("opt=sgd,sam", exclude=exclude)
    assert nothing == (
        "exclude: no point of the grid has {model: resnet50, opt: sam}: "
        "correct its values or take it out."
    )
    assert unknown.startswith("exclude: key 'modle' is unknown: did you mean 'model'?")


def test_a_presets_exclusion_may_lose_its_points_to_the_command_line():
    exclude = [{"rho": 0.4, "opt": "sam"}]
    assert points("rho=0.1", exclude=exclude, strict=False, params={"opt": "sam"}) == [
        "opt=sam rho=0.1"
    ]
    assert refused("seed=1", exclude=exclude, strict=False, params={"opt": "sam"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"exclude": {"opt": "sam"}}, "write a list of points"),
        ({"exclude": ["opt"]}, "exclude=opt: write keys with their values"),
        ({"exclude": [{}]}, "without keys, which is every point"),
        ({"zip": [1, 2]}, "zip=1,2: write keys with their values"),
        ({"zip": {"rho": "interval(0,1)"}}, "give a list of values"),
        ({"zip": {"dry_run": "true,false"}}, "give one value for the whole sweep"),
        ({"params": {"experiment": "a,b"}}, "run one after the other"),
    ],
)
def test_what_is_no_grid_is_refused(values, message):
    assert any(message in problem for problem in refused(**values))


@pytest.mark.parametrize("wrong", [[3], "opt=sgd", ["opt"]])
def test_what_is_no_list_of_grids_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.grids"):
        points(grids=wrong)
