"""The config of a run, which every later version reads.

It has every setting, the full spec of every task, and the number of its format: that of the first
version's has none, which counts as 0.
"""

import math
from collections.abc import Sequence
from typing import Any

from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.settings import Experiment
from mtdnn_tf.tasks.split import format_of

FORMAT = 1
# Format to the settings that have another name from the next format on: dotted key, of which a part
# may be `*`, to its last part's new name.
RENAMED: dict[int, dict[str, str]] = {}


def saved_tree(experiment: Experiment) -> dict[str, Any]:
    """The experiment as a run's config holds it."""
    return {"format": FORMAT, **experiment.model_dump(mode="json")}


def current_tree(tree: dict[str, Any], where: str) -> dict[str, Any]:
    """A saved config's tree with the names of today and without its format.

    Raises:
        UserError: It is of a later version, or not the config of a run.
    """
    tree = dict(tree)
    found = tree.pop("format", 0)
    if type(found) is not int or not 0 <= found <= FORMAT:
        raise UserError(f"{where}: format: expected at most {FORMAT} here, not {found!r}")
    if found == 0:
        tree = _of_format_1(tree, where)
    for number in range(found, FORMAT):
        for key, name in RENAMED.get(number, {}).items():
            tree = _with_new_name(tree, key.split("."), name)
    return tree


def _of_format_1(tree: dict[str, Any], where: str) -> dict[str, Any]:
    """The config of a run of format 0 with what has another meaning by now spelled out."""
    tasks = tree.get("tasks")
    specs: list[Any] = list(tasks.values()) if isinstance(tasks, dict) else [tasks]
    if not all(isinstance(s, dict) and s.get("name") and _is_map(s.get("splits")) for s in specs):
        raise UserError(
            f"{where}: it is not the config of a run, which has the full spec of every task; rename "
            "it, or choose another --workdir"
        )
    for spec in specs:
        for split in spec["splits"].values():
            _say_format(split)
    training = tree.get("training")
    if isinstance(training, dict) and training.get("clip_norm") == math.inf:
        tree = tree | {"training": training | {"clip_norm": None}}
    return tree


def _is_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, dict) for item in value.values())


def _say_format(split: dict[str, Any]) -> None:
    """Says the format of a split whose files' names say another now: all were TSV but `.jsonl`."""
    files, others = _listed(split.get("file")), _listed(split.get("other_names"))
    before = "jsonl" if files and all(str(file).endswith(".jsonl") for file in files) else "tsv"
    if any(_suffix_says(file) != before for file in files + others):
        split.setdefault("format", before)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _suffix_says(file: Any) -> str | None:
    try:
        return format_of(str(file))
    except ValueError:
        return None


def _with_new_name(node: Any, key: Sequence[str], name: str) -> Any:
    if not isinstance(node, dict):
        return node
    first, *rest = key
    if not rest:
        return {name if old == first else old: value for old, value in node.items()}
    return {
        old: _with_new_name(value, rest, name) if first in ("*", old) else value
        for old, value in node.items()
    }
