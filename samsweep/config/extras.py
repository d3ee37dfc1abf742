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
    spec = find_spec(library)
    # A folder of that name, such as that of W&B's runs, is found as a package without a file.
    if spec is not None and spec.origin is not None:
        return None
    return f"{what} needs {library}, which is not installed: pip install 'samsweep[{extra}]'"
