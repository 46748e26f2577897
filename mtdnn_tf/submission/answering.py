"""The answers of a model to the rows of a GLUE task, as a submission says them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from mtdnn_tf.errors import UserError
from mtdnn_tf.evaluation.prediction import check_numbers
from mtdnn_tf.submission.formats import SCORES, GlueFile
from mtdnn_tf.submission.models import Model, answered_labels
from mtdnn_tf.tasks import builtin_tasks
from mtdnn_tf.tasks.spec import TaskSpec

BATCH_SIZE = 32
BATCHES_AHEAD = 64  # Given to the model before the first of them is waited for.


def head_of(task: TaskSpec) -> TaskSpec:
    """The built-in task whose head answers a built-in task."""
    return builtin_tasks()[task.predict_with] if task.predict_with else task


def check_task(of_one: GlueFile, model: Model) -> None:
    """Raises a UserError where the model's task is another than GLUE's of the same name."""
    task = builtin_tasks()[of_one.task]
    head = head_of(task)
    for what, found, expected in (
        ("takes", model.fields[head.name], task.fields),
        ("answers", model.labels[head.name], answered_labels(head)),
    ):
        if set(found) != set(expected):
            raise UserError(
                f"{model.name}: task {head.name!r} {what} {', '.join(found) or 'a score'}; "
                f"expected {', '.join(expected) or 'a score'}"
            )


def answer(
    of_one: GlueFile, model: Model, texts: Mapping[str, Sequence[str]], start: int = 0
) -> Iterator[list[str]]:
    """Answers rows, a batch at a time, in their order.

    Batches begin at multiples of `BATCH_SIZE`, whatever `start` is, so that one that was cut off
    and one that was not say the same.

    Args:
        of_one: The file of the submission that is to be answered, which says how.
        model: Has the task's head.
        texts: Text field of the task to the texts of all rows.
        start: The first row, a multiple of `BATCH_SIZE`.

    Yields:
        What the submission has for each row of a batch.

    Raises:
        ServingError: A server does not answer.
        UserError: An answer is not a number; names its row.
    """
    task = builtin_tasks()[of_one.task]
    head = head_of(task)
    starts = range(start, len(next(iter(texts.values()))), BATCH_SIZE)
    # A label alone does not say whether the model's numbers are numbers.
    wanted = ["label", "probabilities"] if of_one.values else ["score"]
    said = partial(_value, of_one, head) if of_one.values else _score
    with ThreadPoolExecutor(model.threads) as pool:
        for first in range(0, len(starts), BATCHES_AHEAD):
            batches = [_batch(texts, row) for row in starts[first : first + BATCHES_AHEAD]]
            answered = pool.map(lambda batch: model.call(head.name, batch, wanted), batches)
            for row, outputs in zip(starts[first:], answered, strict=False):
                numbers = outputs[wanted[-1]]
                check_numbers(f"{model.name}, {task.name}", range(row, row + len(numbers)), numbers)
                yield [said(value) for value in outputs[wanted[0]]]


def _batch(texts: Mapping[str, Sequence[str]], start: int) -> dict[str, np.ndarray]:
    return {
        name: np.array([text.encode() for text in column[start : start + BATCH_SIZE]], object)
        for name, column in texts.items()
    }


def _score(value: float) -> str:
    """Three decimals: another machine's rounding then changes few of them."""
    return f"{np.clip(value, *SCORES):.3f}"


def _value(of_one: GlueFile, head: TaskSpec, label: bytes) -> str:
    return of_one.values[head.labels.index(label.decode())]


def class_or_score(of_one: GlueFile) -> Callable[[str], float]:
    """How what a submission says is read back: as a class id, or as a score."""
    return of_one.values.index if of_one.values else float
