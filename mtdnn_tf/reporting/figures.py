"""The pictures of a report."""

from collections.abc import Callable, Sized

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mtdnn_tf.reporting.run_record import RunRecord, Split
from mtdnn_tf.tasks.metrics import METRICS
from mtdnn_tf.tasks.pictures import FEW

ACROSS = 3  # Panels beside each other.
PANEL = (3.6, 2.6)  # Inches.
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
                label = f"{METRICS[metric].title}{part}"
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
    """What was answered beside what is right, as the task's kind draws it."""
    panels = split.task.kind.pictures(split.task, split.predictions)

    def draw(axes: Axes, number: int) -> None:
        panels[number](axes)
        if number == 0:
            axes.set_title(": ".join(filter(None, [split.title, axes.get_title()])))

    return _panels(len(panels), draw, max(1, len(split.task.labels) / FEW))


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
