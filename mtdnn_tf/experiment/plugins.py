"""The door for what others add: kinds of tasks, heads, metrics and samplers."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.samplers import SAMPLERS, Sampler
from mtdnn_tf.tasks.heads import HEADS, Head
from mtdnn_tf.tasks.kinds import KINDS, Kind
from mtdnn_tf.tasks.metrics import METRICS, Metric


def register(
    *,
    kind: Kind | None = None,
    head: Head | None = None,
    metric: Metric | None = None,
    sampler: Sampler | None = None,
) -> None:
    """Adds a kind of task, a head, a metric or a sampler, which configs then know by its name.

    docs/extending.md has an example of each.

    Args:
        kind: For `kind` of a task.
        head: For `head` of a task.
        metric: For `metrics` of a task.
        sampler: For `mixture.mode`.

    Raises:
        ValueError: The name is taken.
    """
    if kind is not None:
        KINDS.add(kind)
    if head is not None:
        HEADS.add(head)
    if metric is not None:
        METRICS.add(metric)
    if sampler is not None:
        SAMPLERS.add(sampler)


def import_plugins(modules: Iterable[str]) -> None:
    """Imports modules that register something, from the current folder or an installed package.

    Raises:
        UserError: One is not there, or fails.
    """
    for module in modules:
        if (folder := str(Path.cwd())) not in sys.path:  # A console command's path lacks it.
            sys.path.insert(0, folder)
        try:
            importlib.import_module(module)
        except Exception as error:
            raise UserError(f"--plugins: {module} cannot be imported: {error}") from error
