"""Tasks by name: the built-in suites, and a user's own."""

import functools
import importlib.resources
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import yaml

from mtdnn_tf.errors import UserError, did_you_mean
from mtdnn_tf.tasks.spec import TaskSpec
from mtdnn_tf.validation import validated


def builtin_tasks() -> dict[str, TaskSpec]:
    """Returns the tasks of every suite in `tasks/suites/`, by name, in the suites' order."""
    return dict(_read_suites())


@functools.cache
def _read_suites() -> Mapping[str, TaskSpec]:
    tasks: dict[str, TaskSpec] = {}
    folder = importlib.resources.files("mtdnn_tf.tasks") / "suites"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".yaml"):
            continue
        for name, body in yaml.safe_load(file.read_text(encoding="utf-8")).items():
            if name in tasks:
                raise ValueError(f"suites/{file.name}: a second task is called {name}")
            suite = file.name.removesuffix(".yaml")
            tasks[name] = TaskSpec.model_validate({"name": name, "folder": suite, **body})
    return MappingProxyType(tasks)


def resolve_task(name: str, override: Mapping[str, Any] | None = None, where: str = "") -> TaskSpec:
    """Returns the task called `name`.

    Args:
        name: A built-in task, or the name of the user's own.
        override: For a built-in task, fields to replace: `{dropout: 0.3}`. The keys of a split are
            replaced one by one (`{splits: {train: {file: mine.tsv}}}` keeps the columns), and a
            split that is `None` is left out. For a task of the user's own, all of its fields.
        where: What an error's message begins with, such as the config file.

    Raises:
        UserError: There is no such task, or the fields do not make one.
    """
    where = f"{where}: task {name!r}" if where else f"task {name!r}"
    override = {} if override is None else override
    if not isinstance(override, Mapping):
        raise UserError(f"{where}: should be a mapping of fields to values, not {override!r}")
    if override.get("name", name) != name:
        raise UserError(f"{where}: name: should be {name!r} or left out, not {override['name']!r}")
    base = builtin_tasks().get(name)
    if base is not None:
        fields = _merged(base.model_dump(exclude_unset=True), override)
    elif "kind" in override or "splits" in override:
        fields = dict(override)
    else:
        raise UserError(
            f"{where}: no built-in task has this name{did_you_mean(name, builtin_tasks())}"
            " (a task of your own needs kind, fields, metrics and splits)"
        )
    return validated(TaskSpec, {**fields, "name": name}, where)


def _merged(base: dict[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**base, **override}
    changed = override.get("splits")
    if not isinstance(changed, Mapping):
        return merged
    merged["splits"] = dict(base["splits"])
    for split, body in changed.items():
        if body is None:
            merged["splits"].pop(split, None)
        elif split in base["splits"] and isinstance(body, Mapping):
            merged["splits"][split] = {**base["splits"][split], **body}
        else:
            merged["splits"][split] = body
    return merged
