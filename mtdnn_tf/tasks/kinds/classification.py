"""One class of several, of a sentence or of a pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mtdnn_tf.errors import near
from mtdnn_tf.tasks.kinds.kind import Answered, Columns, Kind, numbers
from mtdnn_tf.tasks.label_cells import equal_to

if TYPE_CHECKING:
    import tensorflow as tf
    from matplotlib.axes import Axes

    from mtdnn_tf.tasks.spec import TaskSpec

# What stands in place of a label in SNLI, and in TensorFlow Datasets.
NO_LABEL = ("-", "-1")
MOST_NAMED = 12  # Labels that a message lists.


class Classification(Kind):
    """Labels are stored as class ids: their positions in the spec.

    Args:
        name: `single_classification` or `pair_classification`.
        texts: Texts of an example.
    """

    has_classes = True

    def __init__(self, name: str, texts: int) -> None:
        self.name, self.texts = name, texts

    def check(self, task: TaskSpec) -> None:
        """See `Kind`."""
        check_labels(task)
        if "f1" in task.metrics and len(task.labels) != 2:
            raise ValueError("f1 is for two labels (the second is positive); use macro_f1")

    def output_size(self, task: TaskSpec) -> int:
        """See `Kind`."""
        return len(task.labels)

    def outputs_of(self, task: TaskSpec, labels: Sequence[str]) -> list[int]:
        """See `Kind`."""
        return [labels.index(label) for label in task.labels]

    def label_parser(self, task: TaskSpec) -> Callable[[str], float]:
        """See `Kind`."""
        return class_ids(task)

    def gold(self, task: TaskSpec, label: float) -> str:
        """See `Kind`."""
        return task.labels[int(label)]

    def losses(
        self, task: TaskSpec, logits: tf.Tensor, label: tf.Tensor, here: tf.Tensor, group: tf.Tensor
    ) -> tf.Tensor:
        """Cross entropy (arXiv 1901.11504, Eq 6)."""
        import tensorflow as tf

        return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(label, tf.int32), logits)

    def log_probabilities(
        self, task: TaskSpec, logits: tf.Tensor, group: tf.Tensor | None, temperature: float
    ) -> tf.Tensor:
        """Of the classes."""
        import tensorflow as tf

        return tf.nn.log_softmax(logits / temperature)

    def answer(self, task: TaskSpec, logits: Any) -> dict[str, Any]:
        """See `Kind`."""
        from keras import ops

        return {"class_id": ops.argmax(logits, axis=1), "probabilities": ops.softmax(logits)}

    def predictions(self, task: TaskSpec, logits: np.ndarray) -> np.ndarray:
        """See `Kind`."""
        return np.asarray(self.answer(task, logits)["class_id"]).astype(np.int64)

    def columns(self, task: TaskSpec, logits: np.ndarray, groups: np.ndarray | None) -> Columns:
        """See `Kind`."""
        answer = self.answer(task, logits)
        chances = np.asarray(answer["probabilities"]).tolist()
        return {
            "label": [task.labels[i] for i in np.asarray(answer["class_id"])],
            "probabilities": [dict(zip(task.labels, row, strict=True)) for row in chances],
        }

    def read(self, task: TaskSpec, columns: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
        """See `Kind`."""
        ids = {label: float(number) for number, label in enumerate(task.labels)}
        chances = [columns[f"probability_{label}"] for label in task.labels]
        return {
            "labels": numbers(columns["gold"], ids),
            "predictions": numbers(columns["label"], ids),
            "probabilities": np.array(chances, np.float64).T,
        }

    def range_of(self, task: TaskSpec) -> str:
        """See `Kind`."""
        return ", ".join(task.labels)

    caption = (
        "Right labels against answers; and, of answers that the model gave a probability to, how "
        "many are right (ECE: expected calibration error, of 10 bins)."
    )
    measure = "probability above the right one's"

    def errors(self, answered: Answered) -> np.ndarray:
        """How much more probable the answer was than the right one."""
        assert answered.probabilities is not None
        rows = np.arange(len(answered.labels))
        right = answered.probabilities[rows, answered.labels.astype(np.int64)]
        return answered.probabilities.max(axis=1) - right

    def pictures(self, task: TaskSpec, answered: Answered) -> list[Callable[[Axes], None]]:
        """The confusion of labels, and how far probabilities can be believed."""
        from mtdnn_tf.tasks import pictures

        draw = (pictures.confusion, pictures.calibration)
        return [partial(one, labels=task.labels, answered=answered) for one in draw]

    def described(self, task: TaskSpec, value: float) -> str:
        """See `Kind`."""
        return task.labels[int(value)]


def check_labels(task: TaskSpec) -> None:
    """Raises a ValueError where the labels of a spec are no names of classes."""
    if task.score_range is not None:
        raise ValueError("score_range is for similarity tasks")
    if len(task.labels) < 2 or len(set(task.labels)) != len(task.labels):
        raise ValueError("labels must be two or more different names")
    if unknown := sorted(set(task.label_values.values()) - set(task.labels)):
        raise ValueError(f"label_values names {unknown[0]!r}, which is not one of {task.labels}")


def class_ids(task: TaskSpec) -> Callable[[str], float]:
    """Returns a function from what a file says to the class id; see `Kind.label_parser`."""
    ids = {name: float(i) for i, name in enumerate(task.labels)}
    ids |= {value: ids[name] for value, name in task.label_values.items()}
    names = [repr(name) for name in ids]
    expected = " or ".join(names if len(names) <= MOST_NAMED else [*names[:MOST_NAMED], "another"])
    id_of = equal_to(ids)

    def class_id(text: str) -> float:
        found = id_of(text)
        if found is not None:
            return found
        hint = near(text, ids)
        if text in NO_LABEL:
            hint = f"; skip_labels: [{text!r}] leaves out rows without a label"
        elif text.isdecimal() and not task.label_values:
            hint = "; map numbers to names with label_values"
        raise ValueError(f"label {text!r}, expected {expected}{hint}")

    return class_id
