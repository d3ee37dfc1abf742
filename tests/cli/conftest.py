"""Commands in this process, which is left as it was."""

import logging
import signal
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins

# Looking for plugins executes Hydra's own again: it has to come before ours are made from them,
# which collecting the doctests does.
Plugins.instance()


@pytest.fixture
def here(monkeypatch):
    """The command may be called in this process, which is left as it was."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(sys, "argv", sys.argv)
    root, handler = logging.getLogger(), signal.getsignal(signal.SIGTERM)
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    signal.signal(signal.SIGTERM, handler)
    GlobalHydra.instance().clear()


@pytest.fixture
def refused(here, tmp_path, monkeypatch, capsys):
    """Gives what ``samsweep run`` says of a command that it refuses."""
    from samsweep.cli.main import main

    def refused(*arguments):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as ended:
            main(["run", *arguments])
        assert ended.value.code == 2
        told = capsys.readouterr().err
        assert "Traceback" not in told
        return told.removeprefix("planning ...\n").removeprefix("preparing ...\n")

    return refused
