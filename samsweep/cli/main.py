"""The command ``samsweep``: finds the command that is meant; imports nothing that takes time."""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from samsweep import __version__

#: What each command does. Its module in samsweep.cli has a ``main``.
COMMANDS = {
    "run": "train and measure one cell, or with -m a grid of cells",
    "measure": "measure trained cells from their weights",
    "status": "list the cells of a study; watch, cancel and retry them",
    "tables": "print and write the tables of a study",
    "report": "write the tables, figures and one report.html of a study",
}

#: Flags of words that print something in place of the command.
_PRINTING = frozenset(
    "-h --help -c --cfg -i --info -sc --shell-completion --hydra-help --version".split()
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first word names; returns its exit status."""
    try:
        return _main(arguments)
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python would complain once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        # While something is imported; where work is under way the commands say what becomes of it.
        print("Interrupted.", file=sys.stderr)
        return 128 + signal.SIGINT


def _main(arguments: Sequence[str] | None) -> int:
    command, *rest = [*(sys.argv[1:] if arguments is None else arguments)] or [""]
    if command in COMMANDS:
        return run_command(command, rest)
    if command == "--complete" and rest:
        from samsweep.cli.complete import completions

        print("\n".join(completions(rest[0])))
        return 0
    if command == "--completion":
        from samsweep.cli.complete import SCRIPTS

        shell = rest[0] if rest else "bash"
        if shell not in SCRIPTS:
            return _refuse(f"--completion {shell}: choose one of {', '.join(SCRIPTS)}.")
        print(SCRIPTS[shell])
        return 0
    if command in ("-h", "--help"):
        print(_usage())
        return 0
    if command == "--version":
        print(f"samsweep {__version__}")
        return 0
    if not command:
        return _refuse(_usage())
    near = difflib.get_close_matches(command, COMMANDS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return _refuse(f"command {command!r} is unknown: {hint}choose one of {', '.join(COMMANDS)}.")


def run_command(command: str, arguments: Sequence[str]) -> int:
    """Run one of :data:`COMMANDS` with the words that follow it; returns its exit status.

    ``HYDRA_FULL_ERROR=1`` in the environment shows tracebacks in place of sentences.
    """
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # A log on a full disk is told of by whatever else cannot be written, without logging's own
    # traceback for each line.
    logging.raiseExceptions = wants_traceback
    at_once = _said_at_once(command, arguments)
    if at_once is not None:
        print(at_once, file=sys.stderr, flush=True)
    # As `python -m samsweep.COMMAND` has it: what Hydra reads, and what records call the command.
    sys.argv = [str(Path(__file__).parents[1] / f"{command}.py"), *arguments]
    try:
        return int(importlib.import_module(f"samsweep.cli.{command}").main(list(arguments)) or 0)
    except OSError as error:
        if error.filename is None or wants_traceback:
            raise
        from samsweep.cli.file_errors import about_file

        return _refuse(about_file(error))


def _said_at_once(command: str, arguments: Sequence[str]) -> str | None:
    """What a command does in its first seconds; None if it is quick, says so itself, or prints."""
    asked = {word.partition("=")[0] for word in arguments}
    if not asked.isdisjoint(_PRINTING):
        return None
    if command == "status":
        return "reading records ..."
    if command == "measure":
        return "selecting cells ..."
    if command == "run":
        grid = not asked.isdisjoint(("-m", "--multirun", "+experiment"))
        return "planning ..." if grid or "hydra.mode=MULTIRUN" in arguments else "preparing ..."
    return None


def _usage() -> str:
    listed = "\n".join(f"  {name:8} {does}" for name, does in COMMANDS.items())
    return (
        f"usage: samsweep COMMAND [KEY=VALUE ...]\n\n{listed}\n\n"
        "samsweep COMMAND --help explains every key. Tab completion in bash or zsh:\n"
        '  eval "$(samsweep --completion bash)"'
    )


def _refuse(text: str) -> int:
    print(text, file=sys.stderr)
    return 2
