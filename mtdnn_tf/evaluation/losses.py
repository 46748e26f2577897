"""The loss of each example under its own task's head."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from mtdnn_tf.tasks.spec import TaskSpec


def example_losses(
    tasks: Sequence[TaskSpec], logits: Mapping[str, tf.Tensor], batch: Mapping[str, tf.Tensor]
) -> tf.Tensor:
    """The loss of each example by the kind of its task.

    Args:
        tasks: The tasks in the order that `batch["task"]` counts.
        logits: Task name to the output of its head for every example, [examples, outputs] float32.
        batch: A packed batch.

    Returns:
        [examples] float32: each example's loss under the head of its own task; for a candidate of a
        query, the loss of the query; 0 without a label, which is not a number then.
    """
    losses = tf.zeros_like(batch["label"])
    has_label = ~tf.math.is_nan(batch["label"])
    for position, task in enumerate(tasks):
        of_task = (batch["task"] == position) & has_label
        label = tf.where(of_task, batch["label"], 0.0)
        loss = task.kind.losses(task, logits[task.name], label, of_task, batch["group"])
        losses = tf.where(of_task, loss, losses)
    return losses


def task_sums(number_of_tasks: int, losses: tf.Tensor, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Sum of unweighted losses and number of items of each task, [tasks, 2] float32."""
    is_first = batch["group"] == tf.range(tf.shape(batch["group"])[0])
    real = tf.cast((batch["index"] >= 0) & is_first, tf.float32)
    one_hot = tf.one_hot(batch["task"], number_of_tasks) * real[:, tf.newaxis]
    return tf.matmul(one_hot, tf.stack([losses, tf.ones_like(losses)], axis=1), transpose_a=True)
