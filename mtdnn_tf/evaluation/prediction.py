"""What a model answers to one example."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtdnn_tf.errors import UserError


@dataclass(frozen=True)
class Prediction:
    """The answer to one example.

    Attributes:
        label: Name of the most probable class; None but for classification.
        probabilities: Label name to probability, in the spec's order; None but for classification.
        score: The similarity, or the relevance of a candidate; None for classification.
        rank: Place of a candidate among those given for the same query, from 1; None but for ranking.
    """

    label: str | None = None
    probabilities: Mapping[str, float] | None = None
    score: float | None = None
    rank: int | None = None


def check_examples(texts: object) -> None:
    """Refuses what is no list of examples.

    Raises:
        UserError: It is one string, or nothing that has items.
    """
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        found = "one string: " if isinstance(texts, str) else ""
        raise UserError(f"texts: expected a list of examples, found {found}{texts!r}")


def check_numbers(where: str, rows: Sequence[object] | np.ndarray, values: np.ndarray) -> None:
    """Refuses what a model gave where it is not all numbers, as of weights that are none.

    Args:
        where: The task or the model, for the message.
        rows: [n] what the rows are called.
        values: [n, ...] float.

    Raises:
        UserError: A value is NaN or infinite; names the first such row.
    """
    wrong = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
    if wrong.size:
        raise UserError(
            f"{where}: the model's output for row {str(rows[wrong[0]])!r} is not a finite number"
        )
