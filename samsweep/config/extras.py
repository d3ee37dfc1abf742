"""What not everybody needs: libraries of the extras, ``pip install 'samsweep[wandb]'``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

#: The library of each extra.
EXTRAS: Mapping[str, str] = {"pruning": "optuna", "report": "matplotlib", "wandb": "wandb"}


def lacking(what: str, extra: str) -> str | None:
    """A sentence if the library of an extra is not installed.

    Args:
        what: Needs it, as the user has written it.
        extra: A key of :data:`EXTRAS`.
    """
    library = EXTRAS[extra]
    if find_spec(library) is not None:
        return None
    return f"{what} needs {library}, which is not installed: pip install 'samsweep[{extra}]'"
