"""The commands that launched what is unfinished, from the manifests of a study's launches."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from multirun_analysis.runs.reading import MAX_RECORD, Skipped, read_regular, skip
from samsweep.records.schema import ENDED
from samsweep.sweep.manifest import Manifest, launch_folders
from samsweep.system.text import printable

#: Commands that are shown, at most; the latest ones.
_MOST_SHOWN = 10


def unfinished(runs: pd.DataFrame) -> pd.DataFrame:
    """The cells that their commands run further; a diverged cell has a result."""
    return runs[~runs["status"].isin(ENDED)]


def resume_commands(study_folder: Path, runs: pd.DataFrame, skipped: list[Skipped]) -> list[str]:
    """The commands whose cells are unfinished: run again, they run these and skip the others.

    Returns:
        Lines for a shell, latest launch first, each once.
    """
    open_cells = set(unfinished(runs)["cell_id"])
    commands: dict[str, None] = {}
    for launch in reversed(launch_folders(study_folder) if open_cells else []):
        try:
            content = read_regular(str(launch.manifest_file), 16 * MAX_RECORD)
            manifest = Manifest.model_validate_json(content)
        except ValidationError:
            skip(skipped, launch.manifest_file, "no manifest of a known version")
        except (ValueError, OSError) as error:
            skip(skipped, launch.manifest_file, str(error))
        else:
            if open_cells & manifest.cells.keys():
                commands[printable(manifest.command)] = None
    return list(commands)[:_MOST_SHOWN]
