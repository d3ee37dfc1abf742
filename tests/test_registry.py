"""Components of one's own: registering, finding, importing and telling them apart."""

import importlib
import subprocess
import sys
import textwrap
from functools import partial
from importlib.metadata import EntryPoint, version
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import compose_run
from torch import nn

from samsweep import register
from samsweep.config import (
    BASES,
    COMBINATIONS,
    DATASETS,
    LOSSES,
    MODELS,
    ConfigError,
    DataInfo,
    plugins,
)
from samsweep.config.components import REGISTRIES
from samsweep.config.factory import (
    add_search_path,
    bound,
    load_factory,
    make,
    search_path,
    source_of,
)
from samsweep.config.plugins import load_plugins
from samsweep.config.registry import Component
from samsweep.data.load import load_dataset
from samsweep.records.identity import cell_id
from samsweep.records.store import CellFolder
from samsweep.records.transitions import register as register_cell
from samsweep.sweep.plan import Point, of_other_sources, plan_sweep
from samsweep.training.task import Task

pytestmark = pytest.mark.usefixtures("own_modules")


def write(folder, files=(), **more):
    """Modules, by their paths without .py."""
    for name, text in {**dict(files), **more}.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(textwrap.dedent(text))
    importlib.invalidate_caches()
    source_of.cache_clear()


# ------------------------------------------------------------------ registering


def test_by_decorator_and_by_path():
    @register.combination("mean")
    def mean(g, h):
        return g

    register.model("net", "somewhere.net", version="net 3")
    assert COMBINATIONS.find("mean").load() is mean
    assert MODELS.find("net").factory == "somewhere.net"
    assert MODELS.find("net").source == "net 3"
    assert not MODELS.find("net").ours


def test_every_kind_can_be_registered():
    names = {"schedule": "lr_schedule"}
    for kind, registry in REGISTRIES.items():
        getattr(register, names.get(kind, kind))("mine", "mylab.mine")
        assert registry.find("mine").factory == "mylab.mine"


def test_a_name_is_taken_once():
    register.loss("focal", "mylab.focal")
    register.loss("focal", "mylab.focal")  # the same again, as a module that is imported twice
    with pytest.raises(ConfigError, match=r"^loss 'focal' is registered twice: choose another"):
        register.loss("focal", "mylab.other")
    with pytest.raises(ConfigError, match="model 'resnet8' is registered twice"):
        register.model("resnet8", "mylab.resnet8")
    with pytest.raises(ConfigError, match=r"loss 'my\.loss': choose a name without dots"):
        register.loss("my.loss", "mylab.loss")


def test_a_partial_function_would_hide_its_arguments():
    with pytest.raises(ConfigError, match=r"is made by a partial: register a function or class"):
        register.loss("focal", partial(print, sep=""))


@pytest.mark.parametrize(
    ("kind", "known", "message"),
    [
        ("measure", {"settings": ("bogus",)}, "measure 'own': setting 'bogus' is unknown"),
        ("measure", {"title": "x"}, "measure 'own' is registered with title, which means nothing"),
        ("dataset", {"info": {"num_outputs": 3}}, "dataset 'own' has a dict as info: give a Data"),
        (
            "dataset",
            {"args": ("bad",)},
            r"'own' is registered with args=\('bad',\): give a",
        ),
        ("model", {"args": None}, "model 'own' is registered with args=None: give a mapping"),
    ],
)
def test_what_is_said_of_a_component_is_checked(kind, known, message):
    with pytest.raises(ConfigError, match=message):
        getattr(register, kind)("own", "mylab.thing", **known)
    assert "own" not in REGISTRIES[kind]


def test_arguments_of_a_declared_version_are_part_of_it():
    sources = {
        Component(factory="a.b", version="1", args={"width": width}).source for width in (4, 6)
    }
    assert len(sources) == 2
    assert Component(factory="a.b", version="1").source == "1"


def test_an_unknown_name_is_met_with_the_nearest():
    register.combination("geometric_mean", "mylab.geometric_mean")
    with pytest.raises(ConfigError, match="did you mean 'geometric_mean'"):
        COMBINATIONS.find("geometric_maen")
    with pytest.raises(ConfigError, match=r"plugins=\[MODULE\]"):
        LOSSES.find("focal")


def test_optimizers_of_torch_by_their_names():
    assert BASES.find("nadam").ours
    assert load_factory(BASES.find("nadam").factory).__name__ == "NAdam"
    lion = BASES.find("lion")
    assert lion.source == f"pytorch_optimizer {version('pytorch_optimizer')}"


# ------------------------------------------------------------------ importing


def test_a_factory_by_its_path(own_modules):
    write(own_modules, nets="class Net:\n    @classmethod\n    def tiny(cls): return 'tiny'\n")
    assert load_factory("nets.Net").__name__ == "Net"
    assert load_factory("nets:Net.tiny")() == "tiny"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.net", r"^nowhere\.net: there is no module nowhere here; install its package"),
        ("nets.nothing", r"nets\.nothing: module nets has no callable nothing"),
        ("nets.SIZE", r"nets\.SIZE: module nets has no callable SIZE; name a function"),
        ("raises.net", r"raises\.net cannot be imported: ValueError: on purpose\.$"),
        ("lacks.net", r"lacks\.net cannot be imported: ModuleNotFoundError: No module named 'gone"),
    ],
)
def test_a_factory_that_cannot_be_had(own_modules, path, message):
    write(
        own_modules, nets="SIZE = 3", raises="raise ValueError('on purpose')", lacks="import gone"
    )
    with pytest.raises(ConfigError, match=message) as caught:
        load_factory(path)
    assert len(caught.value.problems) == 1


def net(*, in_channels, width=3, **_):
    return in_channels, width


def strict(*, in_channels, width=3):
    return in_channels, width


def test_a_factory_is_given_what_it_has_parameters_for():
    assert make("model=net", strict, {}, in_channels=1, num_classes=10) == (1, 3)
    assert make("model=net", net, {"depth": 2}, in_channels=1) == (1, 3)
    with pytest.raises(ConfigError, match=r"strict takes no argument depth: choose among width\.$"):
        make("model=net", strict, {"depth": 2}, in_channels=1)
    with pytest.raises(ConfigError, match=r"model=net: .*strict needs a value for in_channels"):
        make("model=net", strict, {"width": 2})


def test_a_function_with_arguments_or_an_object():
    def half(g, h, alpha=0.5):
        return alpha * g + (1 - alpha) * h

    class Half:
        def __init__(self, alpha=0.5):
            self.alpha = alpha

        def __call__(self, g, h):
            return half(g, h, self.alpha)

    assert bound("opt", half, {}) is half
    assert bound("opt", half, {"alpha": 1.0})(2, 4) == 2
    assert bound("opt", Half, {"alpha": 0.0})(2, 4) == 4
    for factory in (half, Half):
        with pytest.raises(ConfigError, match="takes no argument beta: choose among"):
            bound("opt", factory, {"beta": 1.0})


def test_folders_that_are_added_come_last(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("samsweep.config.factory._added", [])
    add_search_path([tmp_path, sys.path[0]])
    add_search_path([tmp_path])
    assert sys.path[-1] == str(tmp_path)
    assert search_path() == (str(tmp_path),)


# ------------------------------------------------------------------ telling sources apart

FILES = {
    "lab/__init__": "",
    "lab/nets": "from . import parts\nfrom .blocks import Block\n\ndef net(): ...\n",
    "lab/parts": "import lab.deep.inner\n",
    "lab/deep/__init__": "",
    "lab/deep/inner": "SIZE = 3\n",
    "lab/blocks": "import torch\nimport helping\n\nclass Block: ...\n",
    "lab/unrelated": "",
    "helping": "",
    "unrelated": "",
}


@pytest.mark.parametrize(
    "changed",
    [
        *("lab/nets", "lab/parts", "lab/blocks", "lab/deep/inner", "helping"),
        *("lab/__init__", "lab/deep/__init__"),
    ],
)
def test_a_module_that_is_imported_from_the_same_folder_counts(own_modules, changed):
    write(own_modules, FILES)
    before = source_of("lab.nets.net")
    assert len(before) == 16
    assert int(before, 16) >= 0
    assert source_of("lab.nets:other") == before
    write(own_modules, {changed: FILES[changed] + "# changed\n"})
    assert source_of("lab.nets.net") != before
    write(own_modules, FILES)
    assert source_of("lab.nets.net") == before


@pytest.mark.parametrize("changed", ["lab/unrelated", "unrelated", "lab/new"])
def test_another_module_does_not_count(own_modules, changed):
    write(own_modules, FILES)
    before = source_of("lab.nets.net")
    write(own_modules, {changed: "# changed\n"})
    assert source_of("lab.nets.net") == before


def test_modules_of_a_folder_without_init_count(own_modules):
    write(own_modules, {"space/nets": "from space import parts", "space/parts": ""})
    before = source_of("space.nets.net")
    write(own_modules, {"space/parts": "# changed"})
    assert source_of("space.nets.net") != before


def test_a_function_and_its_path_are_one_source(own_modules):
    write(own_modules, {**FILES, "lab/blocks": "class Block: ..."})
    assert source_of(load_factory("lab.nets.net")) == source_of("lab.nets.net")


def test_an_installed_distribution_is_its_version():
    assert source_of("yaml.safe_load") == f"PyYAML {version('PyYAML')}"
    assert source_of("torch.optim.NAdam") == f"torch {version('torch')}"


def test_a_module_that_is_no_python_is_named(own_modules):
    write(own_modules, broken="def net(:\n")
    with pytest.raises(ConfigError, match=r"broken\.py, line 1: "):
        source_of("broken.net")


def test_arguments_of_a_registration_count_as_its_source():
    for width in (16, 32):
        register.model(f"net{width}", "yaml.net", args={"width": width})
    sources = [MODELS.find(f"net{width}").source for width in (16, 32)]
    assert sources == [f'PyYAML {version("PyYAML")} {{"width": {w}}}' for w in (16, 32)]


# ------------------------------------------------------------------ identity

NET = ["+model.factory=lab.nets.net", "model.name=tiny"]


def test_sources_are_in_the_identity_of_ones_own_alone(own_modules):
    write(own_modules, FILES)
    assert "sources" not in compose_run().cell.identity()
    cell = compose_run(*NET).cell
    assert cell.identity()["sources"] == {"model": source_of("lab.nets.net")}
    assert cell.identity()["model"] == {"name": "tiny", "factory": "lab.nets.net"}


def test_a_changed_source_is_another_cell(own_modules, monkeypatch):
    from helpers import _compose_run

    write(own_modules, FILES)
    before = cell_id(_compose_run(tuple(NET), "").cell)
    write(own_modules, unrelated="# changed")
    assert cell_id(_compose_run(tuple(NET), "").cell) == before
    write(own_modules, {"lab/blocks": "# changed"})
    assert cell_id(_compose_run(tuple(NET), "").cell) != before


def test_arguments_are_in_the_identity_only_when_given(own_modules):
    write(own_modules, FILES)
    plain = compose_run(*NET).cell.identity()
    assert compose_run(*NET, "++model.args={}").cell.identity() == plain
    for width in ("0.3", "0.30000000000000004"):
        found = compose_run(*NET, f"++model.args.width={width}").cell.identity()
        assert found["model"] == {**plain["model"], "args": {"width": 0.3}}
    assert compose_run(*NET, "++model.args.a=-0.0").cell == (
        compose_run(*NET, "++model.args.a=0.0").cell
    )


def test_planning_imports_neither_torch_nor_a_factorys_module(own_modules):
    write(own_modules, explosive="raise SystemExit('imported')")
    script = """
        import sys
        from pathlib import Path
        from hydra import compose, initialize_config_dir
        from samsweep.config import conf_dir
        from samsweep.hydra_config import register_resolvers, to_run_config
        from samsweep.records.identity import cell_id
        from samsweep.records.store import CellFolder
        from samsweep.sweep.plan import Point, plan_sweep

        register_resolvers()
        points = []
        for seed in "01":
            own = ["+model.factory=explosive.net", "model.name=own", "base=explosive.Base"]
            own += ["loss=explosive.loss", "+opt.combination=explosive.mean", "++base_args={x: 1}"]
            with initialize_config_dir(str(conf_dir()), version_base="1.3"):
                run = to_run_config(compose("config", overrides=[*own, f"seed={seed}"]))
            folder = CellFolder(Path("multirun", cell_id(run.cell)))
            points.append(Point(run=run, folder=folder, overrides=(f"seed={seed}",)))
        assert len(plan_sweep(points).cells) == 2
        print([name for name in ("torch", "explosive", "torchvision") if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{Path(__file__).parents[1]}:{own_modules}", "PATH": ""},
    )
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


# ------------------------------------------------------------------ plugins

PLUGIN = """
from samsweep import register

@register.combination("plugged")
def plugged(g, h):
    return g
"""


def test_a_plugin_by_its_name(own_modules):
    write(own_modules, mine=PLUGIN)
    load_plugins(["mine"])
    assert COMBINATIONS.find("plugged").source == source_of("mine.plugged")


def test_plugins_of_the_environment(own_modules, monkeypatch):
    write(own_modules, mine=PLUGIN, more="")
    monkeypatch.setenv("SAMSWEEP_PLUGINS", "mine, more")
    load_plugins()
    assert "plugged" in COMBINATIONS
    assert "more" in sys.modules


def test_plugins_of_installed_packages(own_modules, monkeypatch):
    write(own_modules, mine=PLUGIN)

    def entry_points(*, group):
        assert group == "samsweep.plugins"
        return [EntryPoint("any", "mine", group)]

    monkeypatch.setattr(plugins.metadata, "entry_points", entry_points)
    load_plugins()
    assert "plugged" in COMBINATIONS


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("entry", r"RuntimeError: on purpose\), which an installed package lists in samsweep\.pl"),
        ("environment", r"RuntimeError: on purpose\), which SAMSWEEP_PLUGINS names: mend it"),
        ("argument", r"RuntimeError: on purpose\), which plugins names: mend it"),
    ],
)
def test_a_plugin_that_cannot_be_imported(own_modules, monkeypatch, where, message):
    write(own_modules, fails="raise RuntimeError('on purpose')")
    if where == "entry":
        points = [EntryPoint("any", "fails", "samsweep.plugins")]
        monkeypatch.setattr(plugins.metadata, "entry_points", lambda group: points)
    if where == "environment":
        monkeypatch.setenv("SAMSWEEP_PLUGINS", "fails")
    with pytest.raises(ConfigError, match=rf"^plugin fails cannot be imported \({message}"):
        load_plugins(["fails"] if where == "argument" else [])


def test_a_plugin_that_takes_a_name_of_ours(own_modules):
    write(own_modules, mine="from samsweep import register\nregister.model('resnet8', 'a.b')\n")
    with pytest.raises(ConfigError, match="^plugin mine: model 'resnet8' is registered twice"):
        load_plugins(["mine"])


def test_a_near_name_of_another_library_is_found():
    with pytest.raises(ConfigError, match="did you mean 'lion'"):
        BASES.find("lionn")


def test_a_plugin_that_raises_is_to_be_mended(own_modules):
    write(own_modules, bad_plugin="int('x', colour=1)\n")
    with pytest.raises(ConfigError, match=r"bad_plugin cannot be imported \(TypeError: .*mend it"):
        load_plugins(["bad_plugin"])


def test_losses_with_tensors_of_their_own_go_where_the_outputs_are(monkeypatch):
    moved = []
    own = nn.CrossEntropyLoss
    monkeypatch.setattr(own, "to", lambda self, device: moved.append(device) or self)
    recipe = compose_run("loss=torch.nn.CrossEntropyLoss").cell.recipe
    assert callable(Task(recipe, torch.device("cpu")).loss)
    assert moved == [torch.device("cpu")]


def two_classes(*, shift=0.0):
    x, y = np.full((20, 5), shift, np.float32), np.arange(20) % 2
    return {"x_train": x, "y_train": y, "x_test": x, "y_test": y}


def declared(**known):
    sizes = {"num_train": 18, "num_val": 2, "num_test": 20}
    return DataInfo(input_dtype="float32", **sizes, **known)


def test_data_that_are_not_what_their_registration_says_are_refused(tmp_path):
    info = declared(num_outputs=3, input_shape=(7,))
    register.dataset("declared", two_classes, info=info)
    config = compose_run("dataset=own", "+dataset.name=declared", "batch_size=4").cell.dataset
    with pytest.raises(ConfigError) as refused:
        load_dataset(config, data_dir=tmp_path, path=None)
    wrong = {problem.partition(" has ")[2].partition("=")[0] for problem in refused.value.problems}
    assert wrong == {"num_outputs", "input_shape"}


def test_data_with_a_declared_description_take_their_arguments():
    info = declared(num_outputs=2, input_shape=(5,))
    register.dataset("shifted", two_classes, info=info)
    words = ("dataset=own", "+dataset.name=shifted", "batch_size=4")
    assert compose_run(*words, "dataset.args.shift=2").cell.dataset.args == {"shift": 2}
    with pytest.raises(ConfigError, match=r"dataset\.args\.shft=2 has no effect"):
        compose_run(*words, "dataset.args.shft=2")


def test_everything_that_is_wrong_with_inspected_data_is_told(own_modules):
    write(
        own_modules,
        odd_data="""
            import numpy as np

            def lacking():
                print("loading")
                return {"x_train": np.zeros((4, 2)), "z": np.zeros(4)}

            def raises():
                raise ValueError("first line\\nsecond line")

            def dies():
                import os
                os._exit(9)
        """,
    )

    def problems(factory):
        with pytest.raises(ConfigError) as refused:
            compose_run("dataset=own", f"+dataset.factory=odd_data.{factory}", "batch_size=4")
        return refused.value.problems

    told = problems("lacking")
    assert len(told) == 4
    for name, problem in zip(("y_train", "x_test", "y_test", "has z"), told, strict=True):
        assert name in problem
    (told,) = problems("raises")
    assert "ValueError" in told and "first line second line" in told
    assert len(problems("dies")) == 1


def _declared_data(**known):
    """A data set of a plugin that says how large it is, under a name of its own.

    One with an argument has a function for that.
    """
    x, y = np.zeros((20, 5), np.float32), np.arange(20) % 2
    info = DataInfo(
        num_outputs=2, input_shape=(5,), input_dtype="float32", num_train=18, num_val=2, num_test=20
    )
    name = f"declared{len(DATASETS)}"

    def load(release="a"):
        return {"x_train": x, "y_train": y, "x_test": x, "y_test": y}

    def describe_release(release="a"):
        return info

    known.setdefault("info", info)
    if known["info"] is None:
        known["info"] = describe_release
    register.dataset(name, load, **known)
    return name


def _compose_dataset(name, *overrides):
    own = ("dataset=own", f"+dataset.name={name}", "batch_size=4", "data_dir=data")
    return compose_run(*own, *overrides).cell


def test_declared_contents_are_in_the_identity(tmp_path):
    without = _compose_dataset(_declared_data()).dataset
    assert without.fingerprint is None
    text = _compose_dataset(_declared_data(fingerprint="2026.1")).dataset
    assert text.fingerprint == "2026.1"
    load_dataset(text, data_dir=tmp_path, path=None)

    asked = []

    def of_release(release="a"):
        asked.append(release)
        return f"contents of {release}"

    name = _declared_data(fingerprint=of_release, info=None)
    cells = [_compose_dataset(name, *more) for more in ([], ["dataset.args.release=b"], [])]
    found = [cell.dataset.fingerprint for cell in cells]
    assert found == ["contents of a", "contents of b", "contents of a"]
    assert len({cell_id(cell) for cell in cells}) == 2
    assert asked == ["a", "b"], "once for all points of a grid"
    load_dataset(cells[1].dataset, data_dir=tmp_path, path=None)


def test_contents_that_are_others_by_now_are_not_trained_on(tmp_path):
    name = _declared_data(fingerprint="new")
    config = _compose_dataset(name).dataset.model_copy(update={"fingerprint": "old"})
    with pytest.raises(ConfigError, match=f"dataset={name} has the fingerprint new.* on old"):
        load_dataset(config, data_dir=tmp_path, path=None)


@pytest.mark.parametrize(
    ("fingerprint", "told"),
    [
        (lambda: 1 / 0, ["ZeroDivisionError", "fingerprint"]),
        (lambda: 12, ["12", "return a text"]),
        (lambda year: year, ["dataset.args.year", "set dataset.args.year=VALUE"]),
    ],
)
def test_a_fingerprint_that_cannot_be_had_is_refused(fingerprint, told):
    name = _declared_data(fingerprint=fingerprint)
    with pytest.raises(ConfigError) as refused:
        _compose_dataset(name)
    assert all(part in str(refused.value) for part in (f"dataset={name}", *told))


def test_a_plan_counts_cells_of_another_source(tmp_path):
    run = compose_run("model=resnet8")

    def point(source):
        cell = run.cell.model_copy(update={"sources": {"model": source}})
        folder = CellFolder(tmp_path / "default/cells" / cell_id(cell))
        return Point(run=run.model_copy(update={"cell": cell}), folder=folder)

    old, new = point("old"), point("new")
    register_cell(old.folder, old.run)
    assert of_other_sources(plan_sweep([new])) == 1
    assert of_other_sources(plan_sweep([old, new])) == 0
    assert of_other_sources(plan_sweep([old])) == 0
