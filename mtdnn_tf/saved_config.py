"""The config of a run, which every later version reads.

It has every setting, the full spec of every task, and the number of its format: that of the first
version's has none, which counts as 0.
"""

from collections.abc import Sequence
from typing import Any

from mtdnn_tf.config import Experiment
from mtdnn_tf.errors import UserError
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
        UserError: It is of a later version.
    """
    tree = dict(tree)
    found = tree.pop("format", 0)
    if type(found) is not int or not 0 <= found <= FORMAT:
        raise UserError(f"{where}: format: expected at most {FORMAT} here, not {found!r}")
    if found == 0:
        _say_formats(tree)
    for number in range(found, FORMAT):
        for key, name in RENAMED.get(number, {}).items():
            tree = _with_new_name(tree, key.split("."), name)
    return tree


def _say_formats(tree: dict[str, Any]) -> None:
    """Says of files without a known suffix that they are TSV files, as every file was but `.jsonl`."""
    for task in (tree.get("tasks") or {}).values():
        for split in task["splits"].values():
            files = split.get("file") or ()
            for file in [files] if isinstance(files, str) else files:
                try:
                    format_of(file)
                except ValueError:
                    split.setdefault("format", "tsv")


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
