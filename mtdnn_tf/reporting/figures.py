"""The pictures of a report."""

from collections.abc import Callable, Sized

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import confusion_matrix

from mtdnn_tf.evaluation.metrics import ranks
from mtdnn_tf.evaluation.progress import METRIC_NAMES
from mtdnn_tf.reporting.calibration import reliability
from mtdnn_tf.reporting.run_record import RunRecord, Split

ACROSS = 3  # Panels beside each other.
PANEL = (3.6, 2.6)  # Inches.
FEW = 8  # Labels that a panel has room for; with more it grows.
COUNTED = 16  # Labels up to which the numbers of a confusion are written in it.
SMOOTHING = 20  # Points of a curve that a mean is taken over, at most.


def losses(run: RunRecord) -> Figure:
    """The loss of each task over the steps: every loop, and a moving mean."""
    tasks = run.experiment.heads

    def draw(axes: Axes, number: int) -> None:
        name = tasks[number].name
        points = [(r["step"], r["loss"][name]) for r in run.loops if r["examples"].get(name)]
        axes.set_title(name)
        axes.set_xlabel("step")
        if not points:
            return
        steps, values = np.array(points).T
        axes.plot(steps, values, linewidth=0.5, alpha=0.4, marker=_marker(values))
        width = min(SMOOTHING, len(values))
        mean = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(steps[width - 1 :], mean, color="C0", marker=_marker(mean))

    return _panels(len(tasks), draw)


def dev_metrics(run: RunRecord) -> Figure:
    """The dev metrics of each task over the epochs, in percent."""
    tasks = [task for task in run.experiment.heads if task.name in run.epochs[0]["metrics"]]

    def draw(axes: Axes, number: int) -> None:
        name = tasks[number].name
        axes.set_title(name)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for split, metrics in run.epochs[0]["metrics"][name].items():
            for metric in metrics:
                values = [100 * record["metrics"][name][split][metric] for record in run.epochs]
                part = "" if split == "dev" else f" {split.removeprefix('dev_')}"
                label = f"{METRIC_NAMES[metric]}{part}"
                axes.plot([r["epoch"] for r in run.epochs], values, marker="o", label=label)
        axes.legend(fontsize="small")

    return _panels(len(tasks), draw)


def training(run: RunRecord) -> Figure:
    """Learning rate, fill of the batches in percent, and speed over the steps."""
    steps = [record["step"] for record in run.loops]
    curves = (
        ("learning rate", [record["learning_rate"] for record in run.loops]),
        ("slots filled, percent", [100 * record["fill"] for record in run.loops]),
        ("examples/s", [record["examples_per_second"] for record in run.loops]),
    )

    def draw(axes: Axes, number: int) -> None:
        title, values = curves[number]
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.plot(steps, values, linewidth=1, marker=_marker(values))
        axes.set_ylim(0, 1.08 * max(values))

    return _panels(len(curves), draw)


def examples(run: RunRecord) -> Figure:
    """How many examples each task was trained on."""
    seen = run.examples()
    figure = Figure(figsize=(2 * PANEL[0], 0.7 + 0.3 * len(seen)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(seen), list(seen.values()))
    axes.bar_label(bars, [f"{count:,}" for count in seen.values()], padding=3)
    axes.invert_yaxis()
    axes.set_xlabel("examples, each as often as it was seen")
    axes.margins(x=0.15)
    return figure


def answers(split: Split) -> Figure:
    """What was answered beside what is right, and how far probabilities can be believed."""
    found = split.predictions
    if found.probabilities is not None:
        draw = (_confusion, _reliability)
        scale = max(1, len(split.task.labels) / FEW)
        return _panels(2, lambda axes, number: draw[number](axes, split), scale)
    return _panels(1, lambda axes, _: (_places if split.task.is_ranking else _scatter)(axes, split))


def _confusion(axes: Axes, split: Split) -> None:
    labels = split.task.labels
    found = split.predictions
    counts = confusion_matrix(found.labels, found.predictions, labels=range(len(labels)))
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
    axes.set_title(f"{split.title}: confusion")


def _reliability(axes: Axes, split: Split) -> None:
    assert split.predictions.probabilities is not None
    bins = reliability(split.predictions.labels, split.predictions.probabilities)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--")
    axes.plot(bins.confidence, bins.accuracy, zorder=2)
    sizes = 15 + 120 * bins.count / bins.count.sum()
    axes.scatter(bins.confidence, bins.accuracy, s=sizes, zorder=3)
    axes.set_xlim(0, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("probability of the answer")
    axes.set_ylabel("share that is right")
    axes.set_title(f"calibration: ECE {100 * bins.error:.1f} %")


def _scatter(axes: Axes, split: Split) -> None:
    found = split.predictions
    axes.scatter(found.labels, found.predictions, s=6, alpha=0.4)
    ends = [found.labels.min(), found.labels.max()]
    axes.plot(ends, ends, color="grey", linewidth=0.8, linestyle="--")
    axes.set_xlabel("right score")
    axes.set_ylabel("predicted score")
    axes.set_title(split.title)


def _places(axes: Axes, split: Split) -> None:
    found = split.predictions
    assert found.groups is not None
    places = ranks(found.predictions, found.groups)[found.labels > 0.5]
    axes.hist(places, bins=[n + 0.5 for n in range(int(places.max()) + 1)], rwidth=0.9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("place of a right candidate")
    axes.set_ylabel("candidates")
    axes.set_title(split.title)


def _marker(values: Sized) -> str:
    """A point is seen, where it is the only one or one of few."""
    return "." if len(values) <= SMOOTHING else ""


def _panels(count: int, draw: Callable[[Axes, int], None], scale: float = 1) -> Figure:
    """A figure of `count` panels, which `draw` fills one after another."""
    across = min(ACROSS, count)
    down = -(-count // across)
    size = scale * PANEL[0] * across, scale * PANEL[1] * down
    figure = Figure(figsize=size, layout="constrained")
    for number, axes in enumerate(figure.subplots(down, across, squeeze=False).flat):
        if number < count:
            draw(axes, number)
        else:
            axes.set_axis_off()
    return figure
