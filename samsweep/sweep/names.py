"""What cells are called side by side: by their ids, and by what these leave out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from samsweep.config import CellConfig
from samsweep.records.identity import CellKey, varying
from samsweep.sweep.plan import PlannedCell
from samsweep.system.text import printable

#: Keys that say what others say already: where the data lie, of what source a component is.
IMPLIED = ("sources.", "dataset.fingerprint")


def names_of(cells: Iterable[PlannedCell]) -> dict[CellKey, str]:
    """For the cells of a sweep: with their study if there are several, and with what differs."""
    configs = {cell.key: cell.run.cell for cell in cells}
    spans_studies = len({key.study for key in configs}) > 1
    differences = hidden_differences(configs)
    names = {}
    for key in configs:
        name = "/".join(key) if spans_studies else key.cell_id
        differs = differences.get(key)
        names[key] = printable(f"{name} ({differs})" if differs else name)
    return names


def hidden_differences(cells: Mapping[CellKey, CellConfig]) -> dict[CellKey, str]:
    """What tells cells apart whose ids differ in nothing but the hash, as ``lr=0.1``."""
    groups: dict[tuple[str, str], list[CellKey]] = {}
    for key in cells:
        groups.setdefault((key.study, key.cell_id.rpartition("-")[0]), []).append(key)
    found = {}
    for keys in groups.values():
        if len(keys) > 1:
            for key, values in zip(keys, varying([cells[key] for key in keys]), strict=True):
                shown = {k: v for k, v in values.items() if not k.startswith(IMPLIED)}
                found[key] = equations(shown or values)
    return found


def equations(values: Mapping[str, object]) -> str:
    """The values that are given, by the last parts of their keys.

    >>> equations({"recipe.lr": 0.1, "variant.eta": None})
    'lr=0.1'
    >>> equations({"recipe.base_args.eps": 0.1, "variant.ascent_args.eps": 0.2})
    'base_args.eps=0.1 ascent_args.eps=0.2'
    """
    given = {key: value for key, value in values.items() if value is not None}
    ends = Counter(key.rpartition(".")[2] for key in given)
    # Of two arguments of one name whose they are as well.
    parts = {key: 1 if ends[key.rpartition(".")[2]] == 1 else 2 for key in given}
    return " ".join(
        f"{'.'.join(key.split('.')[-parts[key] :])}={value}" for key, value in given.items()
    )
