"""Answers that cost time, kept between commands in the user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path


def cached_file(kind: str, key: str) -> Path:
    """Where an answer is kept; the folder may be deleted at any time.

    Args:
        kind: Of the answer.
        key: Of the question.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "samsweep" / kind / key


def keep(file: Path, text: str) -> None:
    """Write an answer, whole or not at all; a cache that cannot be written is none."""
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text)
        fresh.replace(file)
    except OSError:
        fresh.unlink(missing_ok=True)
