"""What is said of a file that cannot be read or written."""

from __future__ import annotations

import os
import time
import traceback

from samsweep.system.cache import cached_file, keep


def about_file(error: OSError) -> str:
    """The sentence about a file that cannot be read or written, and where the traceback is kept.

    Most often it is a full disk or a folder without permission; where it is a fault of samsweep's
    own, the sentence alone would hide it.
    """
    log = cached_file("errors", f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log")
    keep(log, "".join(traceback.format_exception(error)))
    kept = f" The traceback is in {log}." if log.exists() else ""
    return f"{error.filename}: {error.strerror}.{kept}"
