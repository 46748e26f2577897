"""How far a model's probabilities can be believed."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Reliability:
    """Answers put into bins by the probability that the model gave them.

    Attributes:
        confidence: [bins] float64, the mean probability of the answers of a bin.
        accuracy: [bins] float64, the share of them that is right.
        count: [bins] int64, how many they are; bins without answers are left out.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error (Guo et al. 2017, arXiv 1706.04599, Eq 3), a fraction."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float(np.average(gaps, weights=self.count))


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> Reliability:
    """Puts answers into bins of equal width.

    Args:
        labels: [examples] class ids.
        probabilities: [examples, classes].
        bins: How many bins there are from 0 to 1.
    """
    answers = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(len(answers)), answers]
    right = answers == labels
    number = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    count = np.bincount(number, minlength=bins)
    used = count > 0
    return Reliability(
        confidence=np.bincount(number, confidence, bins)[used] / count[used],
        accuracy=np.bincount(number, right, bins)[used] / count[used],
        count=count[used],
    )
