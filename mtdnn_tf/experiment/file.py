"""An experiment read from a YAML file, with settings of the command line on top."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.saved import current_tree
from mtdnn_tf.experiment.settings import Experiment
from mtdnn_tf.tasks.registry import SourceName, resolve_task
from mtdnn_tf.validation.fields import validated
from mtdnn_tf.validation.yaml_file import parse_yaml, read_yaml

# What JSON leaves as it is and YAML folds or refuses.
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def set_key(tree: dict[str, Any], assignment: str) -> None:
    """Sets one nested key of a config tree in place, from `training.epochs=2`.

    The value is read as YAML, so that `null`, numbers, `[lists]` and `{maps: 1}` work. The sections on
    the way are copied: what other places of the tree share with them stays.

    Raises:
        UserError: The text is not `key=value`, the value is missing, or the path goes through
            something not a mapping.
    """
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set={assignment}: expected key=value, such as training.epochs=2")
    if not text.strip():
        raise UserError(
            f"--set={assignment}: expected a value after =, found none; write null for none"
        )
    value = parse_yaml(text, f"--set={assignment}", key.strip())
    *parents, last = key.strip().split(".")
    node = tree
    for parent in parents:
        child = node.get(parent)
        if parent == "tasks" and node is tree:
            child = _tasks_mapping(child, "--set")
        if not isinstance(child, dict | None):
            raise UserError(f"--set={assignment}: {parent} is not a section")
        node[parent] = dict(child or {})
        node = node[parent]
    node[last] = value


def assignments(*settings: Mapping[str, Any]) -> list[str]:
    """Settings, dotted key to value, as `key=value` texts."""
    return [
        f"{key}={_ESCAPED.sub(_escape, json.dumps(value, ensure_ascii=False))}"
        for of_one in settings
        for key, value in of_one.items()
    ]


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _tasks_mapping(tasks: Any, where: str) -> dict[str, Any]:
    if tasks and isinstance(tasks, list) and all(isinstance(name, str) for name in tasks):
        return dict.fromkeys(tasks)
    if tasks and isinstance(tasks, dict) and all(isinstance(name, str) for name in tasks):
        return dict(tasks)
    raise UserError(f"{where}: tasks: expected a list of task names or a mapping, found {tasks!r}")


def build_experiment(tree: dict[str, Any], where: str, *, saved: bool = False) -> Experiment:
    """Turns a config tree into an `Experiment`, task names resolved against the built-in suites.

    Args:
        tree: What the YAML holds: a user's config, or a saved one, with its `format`.
        where: The file, for messages.
        saved: Whether a run has saved it; see `mtdnn_tf.validation.fields.is_saved`.

    Raises:
        UserError: A key, task, value or type is wrong; names it, and the near matches.
    """
    tree = current_tree(tree, where) if "format" in tree else dict(tree)
    for section, field in Experiment.model_fields.items():
        if tree.get(section) is None and not field.is_required():
            tree.pop(section, None)
    tasks = _tasks_mapping(tree.get("tasks"), where)
    data = tree.get("data")
    # A value that is neither is told below, with the rest of the section.
    is_tfds = isinstance(data, dict) and data.get("source") == "tfds"
    source: SourceName = "tfds" if is_tfds else "files"
    tree["tasks"] = {
        name: resolve_task(name, override, where, source, saved=saved)
        for name, override in tasks.items()
    }
    return validated(Experiment, tree, where, saved=saved)


def load_experiment(
    path: Path, assignments: list[str] | None = None, data_dir: str | None = None
) -> Experiment:
    """Reads an experiment from a YAML file.

    Args:
        path: The file.
        assignments: `key=value` texts that override single keys.
        data_dir: Overrides `data.data_dir`; where neither is given it is the config file's folder.

    Raises:
        UserError: See `build_experiment`.
    """
    tree = read_yaml(path)
    for assignment in assignments or []:
        set_key(tree, assignment)
    experiment = build_experiment(tree, str(path))
    folder = data_dir or experiment.data.data_dir or str(path.resolve().parent)
    data = experiment.data.model_copy(update={"data_dir": folder})
    return experiment.model_copy(update={"data": data})
