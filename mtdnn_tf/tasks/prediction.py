"""What a model answers to one example."""

from collections.abc import Mapping
from dataclasses import dataclass


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
