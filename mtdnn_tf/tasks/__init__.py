"""What a task is: its description, and the built-in suites."""

from mtdnn_tf.tasks.registry import builtin_tasks, resolve_task
from mtdnn_tf.tasks.spec import SplitSpec, TaskSpec

__all__ = ["SplitSpec", "TaskSpec", "builtin_tasks", "resolve_task"]
