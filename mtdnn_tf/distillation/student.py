"""The distillation model: a student that learns from frozen teachers (arXiv 1904.09482)."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from mtdnn_tf.distillation.losses import mixed_losses
from mtdnn_tf.evaluation.losses import example_losses
from mtdnn_tf.experiment.distillation import DistillationSettings
from mtdnn_tf.tasks.spec import TaskSpec


class DistillationModel(keras.Model):
    """A student and the frozen ensemble that makes its soft targets on the fly.

    Called on a packed batch it gives the student's logits. In training every teacher runs once for
    all tasks of the batch, in inference mode and without a gradient. `compile` and `fit` work on one
    device, on a data set whose elements are packed batches (`mtdnn_tf.data.batch`), labels
    included:

        model = DistillationModel(student, ensemble, tasks, settings)
        model.compile("adam")
        model.fit(batches)

    `keras.distillation.Distiller` has the same parts; it takes one teacher and losses for the whole
    output (of features too, which this one does not), where this one takes an ensemble and settings a
    task, leaves tasks without a teacher and examples without a label to the loss that they have, and
    weighs the examples of a batch. Its temperature is 3 by default, here 1.

    Args:
        student: The model that learns, from `build_mtdnn`.
        teacher: A model from `build_ensemble`, or `StoredLogits`: anything that gives
            `{task name: logits}` for the tensors of a batch that its `input` names.
        tasks: The student's tasks, in the order that batches count them.
        settings: Which tasks have teachers, and how they learn.
        steps: Steps of the whole training under `fit`; needed where `hard_weight_end` is set.

    Attributes:
        student: The student.
    """

    def __init__(
        self,
        student: keras.Model,
        teacher: keras.layers.Layer,
        tasks: Sequence[TaskSpec],
        settings: DistillationSettings,
        steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.student, self.teacher = student, teacher
        teacher.trainable = False
        self.tasks, self.settings, self.steps = tuple(tasks), settings, steps

    def build(self, input_shape: Any = None) -> None:
        """Does nothing: both models have their weights."""

    def call(self, inputs: Mapping[str, Any], training: bool | None = None) -> dict[str, Any]:
        """Returns the student's logits."""
        return self.student({name: inputs[name] for name in self.student.input}, training=training)

    def targets_of(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The teachers' logits for a batch: {task name: [examples, outputs] float32}."""
        return self.teacher({name: batch[name] for name in self.teacher.input}, training=False)

    def losses_of(
        self,
        batch: Mapping[str, tf.Tensor],
        logits: Mapping[str, tf.Tensor],
        targets: Mapping[str, tf.Tensor],
        progress: tf.Tensor,
    ) -> tf.Tensor:
        """The loss of each example of a batch, [examples] float32.

        Args:
            batch: A packed batch.
            logits: The student's logits.
            targets: The teachers' logits.
            progress: [] float32, the part of the training that is done, from 0 to 1.
        """
        hard = example_losses(self.tasks, logits, batch)
        return mixed_losses(self.tasks, self.settings, hard, logits, targets, batch, progress)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        """The loss of a batch for `fit` and `evaluate`: the weighted sum over its examples."""
        progress = tf.zeros([])
        if self.steps is None and any(
            self.settings.of_task(name).hard_weight_end is not None
            for name in self.settings.teachers
        ):
            raise ValueError("hard_weight_end needs steps: when the training ends")
        if self.steps is not None and self.optimizer is not None:
            progress = tf.cast(self.optimizer.iterations.value, tf.float32)
            progress /= max(self.steps - 1, 1)
        losses = self.losses_of(x, y_pred, self.targets_of(x), progress)
        return tf.reduce_sum(x["weight"] * losses)


class StoredLogits(keras.layers.Layer):
    """The teachers' logits of every training example, looked up by its task and position.

    Args:
        logits: Task name to [examples, outputs] float32, in the order of the task's token store; not a
            number for examples that are never asked for.
    """

    def __init__(self, logits: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.trainable = False
        # Another task's examples are looked up as well, and weigh 0: which only a number comes to.
        self._tables = {
            name: tf.where(tf.math.is_nan(of_task), 0.0, of_task)
            for name, of_task in logits.items()
        }

    @property
    def input(self) -> tuple[str, ...]:
        """The tensors of a batch that are needed."""
        return ("index",)

    def build(self, input_shape: Any = None) -> None:
        """Does nothing: there are no weights."""

    def call(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns {task name: [examples, outputs]}; rows of other tasks' examples mean nothing."""
        return {
            name: tf.gather(table, tf.clip_by_value(inputs["index"], 0, table.shape[0] - 1))
            for name, table in self._tables.items()
        }
