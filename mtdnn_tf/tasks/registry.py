"""Tasks by name: the built-in suites, and a user's own."""

import functools
import importlib.resources
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

from mtdnn_tf.errors import UserError, did_you_mean
from mtdnn_tf.tasks.spec import TaskSpec
from mtdnn_tf.validation.fields import validated
from mtdnn_tf.validation.yaml_file import parse_yaml

SourceName = Literal["files", "tfds"]
WHOLE = {name for name, field in TaskSpec.model_fields.items() if field.is_required()}


def builtin_tasks(source: SourceName = "files") -> dict[str, TaskSpec]:
    """Returns the tasks of every suite in `tasks/suites/`, by name, in the suites' order.

    Args:
        source: `files` reads their splits from the official files, `tfds` from TensorFlow Datasets:
            `tfds_splits` in the suite's YAML stands in place of `splits`.
    """
    return dict(_read_suites(source))


@functools.cache
def _read_suites(source: SourceName) -> Mapping[str, TaskSpec]:
    tasks: dict[str, TaskSpec] = {}
    folder = importlib.resources.files("mtdnn_tf.tasks") / "suites"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".yaml"):
            continue
        suite_tree = parse_yaml(file.read_text(encoding="utf-8"), file.name)
        for name, body in suite_tree.items():
            if name in tasks:
                raise ValueError(f"suites/{file.name}: a second task is called {name}")
            suite = file.name.removesuffix(".yaml")
            tfds_splits = body.pop("tfds_splits", None)
            if source == "tfds":
                if tfds_splits is None:
                    continue
                body["splits"] = tfds_splits
            tasks[name] = TaskSpec.model_validate({"name": name, "folder": suite, **body})
    return MappingProxyType(tasks)


def resolve_task(
    name: str,
    override: Mapping[str, Any] | None = None,
    where: str = "",
    source: SourceName = "files",
    *,
    saved: bool = False,
) -> TaskSpec:
    """Returns the task called `name`.

    Args:
        name: A built-in task, or the name of the user's own.
        override: For a built-in task, fields to replace: `{dropout: 0.3}`. The keys of a split are
            replaced one by one (`{splits: {train: {file: mine.tsv}}}` keeps the columns), but for a
            split that goes from a file to TFDS or back. `source` goes before the argument. For a
            task of the user's own, all of its fields; and so for one that a run's config holds,
            which has a `name` besides `kind`, `fields` and `splits`. A split that is `None` is left
            out.
        where: What an error's message begins with, such as the config file.
        source: What a built-in task is read from, `files` or `tfds`.
        saved: Whether a run has saved `override`; see `mtdnn_tf.validation.fields.is_saved`.

    Raises:
        UserError: There is no such task, or the fields do not make one.
    """
    where = f"{where}: task {name!r}" if where else f"task {name!r}"
    override = {} if override is None else override
    if not isinstance(override, Mapping):
        raise UserError(f"{where}: should be a mapping of fields to values, not {override!r}")
    if override.get("name", name) != name:
        raise UserError(f"{where}: name: should be {name!r} or left out, not {override['name']!r}")
    if name in builtin_tasks() and not override.keys() >= WHOLE:
        override = dict(override)
        source = override.pop("source", source)
        if source not in get_args(SourceName):
            raise UserError(f"{where}: source: should be 'files' or 'tfds', not {source!r}")
        base = builtin_tasks(source).get(name)
        if base is None:
            raise UserError(f"{where}: source: no data set of TFDS is known for this task")
        fields = _merged(base.model_dump(exclude_unset=True), override)
    elif "source" in override:
        raise UserError(
            f"{where}: source is for built-in tasks; a split of your own says file: or tfds:"
        )
    elif "kind" in override or "splits" in override:
        fields = _merged({"splits": {}}, override)
    else:
        raise UserError(
            f"{where}: no built-in task has this name{did_you_mean(name, builtin_tasks())}"
            " (a task of your own needs kind, fields, metrics and splits)"
        )
    return validated(TaskSpec, {**fields, "name": name}, where, saved=saved)


def _merged(base: dict[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**base, **override}
    changed = override.get("splits")
    if not isinstance(changed, Mapping):
        return merged
    merged["splits"] = dict(base["splits"])
    for split, body in changed.items():
        if body is None:
            merged["splits"].pop(split, None)
        elif isinstance(body, Mapping) and _is_change(base["splits"].get(split), body):
            merged["splits"][split] = {**base["splits"][split], **body}
        else:
            merged["splits"][split] = body
    return merged


def _is_change(before: Mapping[str, Any] | None, body: Mapping[str, Any]) -> bool:
    """Whether `body` changes keys of a split, and is not a split of its own."""
    return before is not None and not any(
        old in before and new in body for old, new in (("file", "tfds"), ("tfds", "file"))
    )
