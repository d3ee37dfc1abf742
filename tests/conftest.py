"""Fixtures for all tests."""

import re
import sys

import pytest
import torch
from hypothesis import settings

from samsweep.config import factory, plugins
from samsweep.config.components import REGISTRIES

# Machines that stall for seconds are no defect of the product.
settings.register_profile("quick", max_examples=15, deadline=None)
settings.register_profile("thorough", max_examples=200, deadline=None)
settings.load_profile("quick")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Let --last-failed find tests of a group, whose names xdist has changed."""
    cache = getattr(session.config, "cache", None)
    if cache is not None and not hasattr(session.config, "workerinput"):
        failed = cache.get("cache/lastfailed", {})
        cache.set("cache/lastfailed", {re.sub(r"@\w+$", "", name): True for name in failed})


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Two test processes share two cores, and results must not depend on how many there are."""
    torch.set_num_threads(1)


@pytest.fixture
def own_modules(tmp_path, monkeypatch):
    """A folder where modules are found; what they register is forgotten afterwards."""
    caches = (factory.source_of, plugins.installed_plugins, plugins._load)
    before = {registry: dict(registry) for registry in REGISTRIES.values()}
    modules = set(sys.modules)
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for cache in caches:
        cache.cache_clear()
    yield folder
    for registry, components in before.items():
        registry._components = components
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and str(folder) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]
    for cache in caches:
        cache.cache_clear()
