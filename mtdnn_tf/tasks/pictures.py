"""Pictures of the answers to a split beside what is right; each function fills a panel."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import confusion_matrix

from mtdnn_tf.tasks.kinds.kind import Answered
from mtdnn_tf.tasks.reliability import reliability

FEW = 8  # Labels that a panel has room for; with more it grows.
COUNTED = 16  # Labels up to which the numbers of a confusion are written in it.


def confusion(axes: Axes, labels: Sequence[str], answered: Answered) -> None:
    """How often each label was answered to each that is right."""
    counts = confusion_matrix(answered.labels, answered.predictions, labels=range(len(labels)))
    axes.imshow(
        counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1
    )
    for (row, column), count in np.ndenumerate(counts if len(labels) <= COUNTED else counts[:0]):
        dark = count > 0.6 * counts[row].sum()
        axes.text(
            column, row, f"{count:,}", ha="center", va="center", color="white" if dark else "black"
        )  # fmt: skip
    angle = 20 if len(labels) <= FEW else 60
    axes.set_xticks(range(len(labels)), labels, rotation=angle, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("answered")
    axes.set_ylabel("right")
    axes.set_title("confusion")


def calibration(axes: Axes, labels: Sequence[str], answered: Answered) -> None:
    """How far the probabilities of answers can be believed."""
    assert answered.probabilities is not None
    bins = reliability(answered.labels, answered.probabilities)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--")
    axes.plot(bins.confidence, bins.accuracy, zorder=2)
    sizes = 15 + 120 * bins.count / bins.count.sum()
    axes.scatter(bins.confidence, bins.accuracy, s=sizes, zorder=3)
    axes.set_xlim(0, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("probability of the answer")
    axes.set_ylabel("share that is right")
    axes.set_title(f"calibration: ECE {100 * bins.error:.1f} %")


def scores(axes: Axes, answered: Answered) -> None:
    """Predicted scores against the right ones."""
    axes.scatter(answered.labels, answered.predictions, s=6, alpha=0.4)
    ends = [answered.labels.min(), answered.labels.max()]
    axes.plot(ends, ends, color="grey", linewidth=0.8, linestyle="--")
    axes.set_xlabel("right score")
    axes.set_ylabel("predicted score")


def places(axes: Axes, places: np.ndarray) -> None:
    """Places of right candidates among those of their query, [right candidates] from 1."""
    axes.hist(places, bins=[n + 0.5 for n in range(int(places.max()) + 1)], rwidth=0.9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("place of a right candidate")
    axes.set_ylabel("candidates")
