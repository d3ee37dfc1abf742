"""How the commands end: what cannot be run in one sentence, anything else as what it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from samsweep.hydra_config import explain, is_refusal
from samsweep.hydra_config.preflight import Refusal
from samsweep.records.schema import CellFailed
from samsweep.system.signals import end_on_sigterm


@contextmanager
def ends_in_sentences(arguments: Sequence[str] = ()) -> Iterator[None]:
    """A whole command: what cannot be run ends it in one sentence and exit status 2.

    The arguments of the command line are named where they are wrong. ``HYDRA_FULL_ERROR=1`` in the
    environment shows tracebacks in place of sentences.

    Raises:
        SystemExit: With the exit status, unless all went well.
    """
    end_on_sigterm()
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra would print its own account and leave nothing to explain.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    except Refusal as refusal:
        _end(refusal.reason, status=2)
    except KeyboardInterrupt:
        _end("Interrupted; the same command goes on from here.", status=130)
    except Exception as error:
        if wants_traceback:
            raise
        if isinstance(error, CellFailed):
            # Its traceback has been logged, and is in the record.
            _end(str(error), status=1)
        if is_refusal(error):
            _end(explain(error, arguments), status=2)
        raise


def _end(reason: str, *, status: int) -> NoReturn:
    print(reason, file=sys.stderr)
    sys.exit(status)
