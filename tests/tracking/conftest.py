"""W&B without an account."""

import sys

import pytest
from wandb_tools import Server


@pytest.fixture(autouse=True)
def no_account(tmp_path, monkeypatch):
    """Neither the key of whoever runs the tests, nor their W&B server."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


@pytest.fixture(autouse=True)
def separate_services():
    """Each test starts W&B's service anew, with the environment that it sets."""
    yield
    if "wandb" in sys.modules:
        import wandb

        wandb.teardown()


@pytest.fixture
def server(monkeypatch):
    """A server, and an account on it."""
    server = Server()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    yield server
    server.stop()
