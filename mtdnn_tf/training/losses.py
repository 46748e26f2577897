"""The loss of each example under its own task's head."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from mtdnn_tf.tasks.spec import TaskSpec


def example_losses(
    tasks: Sequence[TaskSpec], logits: Mapping[str, tf.Tensor], batch: Mapping[str, tf.Tensor]
) -> tf.Tensor:
    """Cross entropy (arXiv 1901.11504, Eq 6), or squared error (Eq 7) for similarity.

    Args:
        tasks: The tasks in the order that `batch["task"]` counts.
        logits: Task name to the output of its head for every example, [examples, outputs] float32.
        batch: A packed batch.

    Returns:
        [examples] float32: each example's loss under the head of its own task.
    """
    losses = tf.zeros_like(batch["label"])
    for position, task in enumerate(tasks):
        of_task = batch["task"] == position
        label = tf.where(of_task, batch["label"], 0.0)
        output = logits[task.name]
        if task.is_regression:
            loss = tf.math.squared_difference(output[:, 0], label)
        else:
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(label, tf.int32), output)
        losses = tf.where(of_task, loss, losses)
    return losses


def task_sums(number_of_tasks: int, losses: tf.Tensor, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Sum of unweighted losses and number of examples of each task, [tasks, 2] float32."""
    real = tf.cast(batch["index"] >= 0, tf.float32)
    one_hot = tf.one_hot(batch["task"], number_of_tasks) * real[:, tf.newaxis]
    return tf.matmul(one_hot, tf.stack([losses, tf.ones_like(losses)], axis=1), transpose_a=True)
