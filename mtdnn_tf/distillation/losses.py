"""The soft loss of each example, and its mix with the hard one."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from mtdnn_tf.experiment.distillation import DistillationSettings, SoftLossSettings
from mtdnn_tf.tasks.spec import TaskSpec


def soft_losses(
    task: TaskSpec,
    settings: SoftLossSettings,
    student: tf.Tensor,
    teacher: tf.Tensor,
    group: tf.Tensor,
) -> tf.Tensor:
    """How far the student is from the teacher in each example.

    Args:
        task: The task.
        settings: Which loss.
        student: [examples, outputs] float32, the logits of the student.
        teacher: [examples, outputs] float32, those of the teacher.
        group: [examples] int32, the position of the first candidate of the same query.

    Returns:
        [examples] float32; for ranking, at each candidate the loss of its query.
    """
    temperature = settings.temperature
    log_p = task.kind.log_probabilities(task, student, group, temperature)
    log_q = task.kind.log_probabilities(task, teacher, group, temperature)
    if settings.loss == "mse" or log_p is None:
        losses = tf.reduce_mean(tf.math.squared_difference(student, teacher), axis=1)
        return task.kind.of_items(losses, group, mean=True)
    difference = log_p if settings.loss == "soft_cross_entropy" else log_p - log_q
    losses = -tf.reduce_sum(tf.exp(log_q) * difference, axis=1) * temperature**2
    return task.kind.of_items(losses, group, mean=False)


def mixed_losses(
    tasks: Sequence[TaskSpec],
    settings: DistillationSettings,
    hard: tf.Tensor,
    student: Mapping[str, tf.Tensor],
    teacher: Mapping[str, tf.Tensor],
    batch: Mapping[str, tf.Tensor],
    progress: tf.Tensor,
) -> tf.Tensor:
    """The loss of each example: the hard one, mixed with the soft one where the task has a teacher.

    Args:
        tasks: The tasks in the order that `batch["task"]` counts.
        settings: Which tasks have teachers, and how they learn from them.
        hard: [examples] float32, the hard losses; 0 where there is no label.
        student: Task name to the student's logits, [examples, outputs] float32.
        teacher: The same of the teachers, for the tasks that have some.
        batch: A packed batch.
        progress: [] float32, the part of the training that is done, from 0 to 1.

    Returns:
        [examples] float32. An example of a task without teachers has exactly its hard loss.
    """
    losses = hard
    for position, task in enumerate(tasks):
        if task.name not in settings.teachers:
            continue
        of_task = settings.of_task(task.name)
        soft = soft_losses(
            task, of_task, student[task.name], tf.stop_gradient(teacher[task.name]), batch["group"]
        )
        share = hard_share(of_task, progress)
        losses = tf.where(batch["task"] == position, share * hard + (1.0 - share) * soft, losses)
    return losses


def hard_share(settings: SoftLossSettings, progress: tf.Tensor) -> tf.Tensor:
    """The weight of the hard loss at a point of the training, [] float32."""
    end = settings.hard_weight if settings.hard_weight_end is None else settings.hard_weight_end
    return settings.hard_weight + (end - settings.hard_weight) * progress
