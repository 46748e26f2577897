"""What a kind of task has to say: all that depends on the sort of a task is asked here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mtdnn_tf.tasks.metrics import METRICS

if (
    TYPE_CHECKING
):  # Configs are read without TensorFlow and matplotlib, which take seconds to import.
    import tensorflow as tf
    from matplotlib.axes import Axes

    from mtdnn_tf.tasks.spec import TaskSpec

Cell = str | float
Columns = Mapping[str, Sequence[Any]]


class Answered:
    """What was answered to the examples of a split, beside what is right.

    Attributes:
        labels: [examples] float64, class ids or scores.
        predictions: [examples] float64, class ids or scores.
        groups: [examples] int64, the query of each candidate; None but for ranking.
        probabilities: [examples, classes] float64; None but for classification.
    """

    labels: np.ndarray
    predictions: np.ndarray
    groups: np.ndarray | None
    probabilities: np.ndarray | None


class Kind(ABC):
    """A kind of task. It has no state: what differs from task to task is in the spec.

    The methods that are not abstract are right for a kind whose head gives one number an example,
    which is the answer.

    Attributes:
        name: What configs call it.
        texts: How many texts an example has, 1 or 2.
        has_classes: Whether the head gives a logit for each of the spec's labels.
        by_query: Whether examples with one first text belong together, as a query's candidates.
    """

    name: str
    texts: int
    has_classes = False
    by_query = False

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return repr(self.name)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that fit."""
        return tuple(metric.name for metric in METRICS.values() if self.name in metric.kinds)

    def __deepcopy__(self, memo: object) -> Kind:
        return self  # Specs are copied, their kind is one.

    # What a spec may say.

    @abstractmethod
    def check(self, task: TaskSpec) -> None:
        """Raises a ValueError where the spec does not fit the kind."""

    def output_size(self, task: TaskSpec) -> int:
        """Size of the last axis of the task's logits."""
        return 1

    def outputs_of(self, task: TaskSpec, labels: Sequence[str]) -> list[int]:
        """Which output of a head with such labels is that of each of the task's labels."""
        return [0]

    # Labels: in files, stored as a number, in the prediction files.

    @abstractmethod
    def label_parser(self, task: TaskSpec) -> Callable[[str], float]:
        """Returns a function from what a file says to the label that is stored.

        It raises a ValueError that says what was expected.
        """

    @abstractmethod
    def gold(self, task: TaskSpec, label: float) -> Cell:
        """A stored label as prediction files and reports show it."""

    # Learning, in TensorFlow's graph.

    @abstractmethod
    def losses(
        self, task: TaskSpec, logits: tf.Tensor, label: tf.Tensor, here: tf.Tensor, group: tf.Tensor
    ) -> tf.Tensor:
        """The loss of each example.

        Args:
            task: The task.
            logits: [examples, outputs] float32, of the task's head.
            label: [examples] float32, as it is stored; 0 where `here` is false.
            here: [examples] bool, whether the example is of this task and has a label.
            group: [examples] int32, the position of the first candidate of the same query.

        Returns:
            [examples] float32; for a candidate, the loss of its query.
        """

    def log_probabilities(
        self, task: TaskSpec, logits: tf.Tensor, group: tf.Tensor | None, temperature: float
    ) -> tf.Tensor | None:
        """Log of the probabilities that the logits stand for, [examples, outputs] float32.

        None where they stand for none: then logits themselves are averaged and compared.

        Args:
            task: The task.
            logits: [examples, outputs] float32.
            group: See `losses`.
            temperature: What the logits are divided by.
        """
        return None

    def from_log_probabilities(
        self, task: TaskSpec, chances: tf.Tensor, group: tf.Tensor | None, temperature: float
    ) -> tf.Tensor:
        """Logits that stand for such probabilities: the inverse of `log_probabilities`.

        This one is that of a softmax.
        """
        return temperature * chances

    def of_items(self, losses: tf.Tensor, group: tf.Tensor, *, mean: bool) -> tf.Tensor:
        """Losses of examples as those of what counts once: itself, or the query of a candidate."""
        return losses

    def can_calibrate(self, task: TaskSpec) -> bool:
        """Whether a temperature changes the probabilities, and the task's head can show it."""
        return self.has_classes

    # Answers.

    def answer(self, task: TaskSpec, logits: Any) -> dict[str, Any]:
        """What the head's output says, by `keras.ops`: for NumPy, evaluation and the export alike.

        Args:
            task: The task.
            logits: [examples, outputs] float32.

        Returns:
            `score` [examples] float32; for classes `class_id` [examples] int32 and `probabilities`
            [examples, classes] float32.
        """
        return {"score": logits[:, 0]}

    def predictions(self, task: TaskSpec, logits: np.ndarray) -> np.ndarray:
        """What the metrics compare with the labels, [examples]."""
        return np.asarray(self.answer(task, logits)["score"])

    def majority(self, labels: np.ndarray) -> float:
        """The best answer that ignores the text: the most frequent label (of equals, the first)."""
        values, counts = np.unique(labels, return_counts=True)
        return float(values[np.argmax(counts)])

    def columns(self, task: TaskSpec, logits: np.ndarray, groups: np.ndarray | None) -> Columns:
        """The columns of a prediction file, by name."""
        return {"score": self.predictions(task, logits).tolist()}

    def read(self, task: TaskSpec, columns: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
        """Reads back what `columns` and `gold` wrote.

        Returns:
            `labels` and `predictions`; where the kind has them, `groups` and `probabilities`.

        Raises:
            KeyError: A column is missing.
            ValueError: A cell is no number.
        """
        return {"labels": numbers(columns["gold"]), "predictions": numbers(columns["score"])}

    # What people see.

    def range_of(self, task: TaskSpec) -> str:
        """What an answer is, for the model card."""
        return "a score"

    @property
    @abstractmethod
    def caption(self) -> str:
        """What the pictures of a split show, for the report."""

    @property
    @abstractmethod
    def measure(self) -> str:
        """What the size of an error is, for the report."""

    @abstractmethod
    def errors(self, answered: Answered) -> np.ndarray:
        """How wrong each answer is, [examples] float64; 0 and less is right."""

    @abstractmethod
    def pictures(self, task: TaskSpec, answered: Answered) -> list[Callable[[Axes], None]]:
        """What draws the answers beside what is right, a function a panel."""

    def described(self, task: TaskSpec, value: float) -> str:
        """A prediction as the report shows it."""
        return f"{value:.2f}"


def numbers(cells: Sequence[str], names: Mapping[str, float] | None = None) -> np.ndarray:
    """Numbers, or names that stand for numbers, [cells] float64."""
    return np.array([names[cell] if names else float(cell) for cell in cells], np.float64)
