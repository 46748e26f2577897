"""How few labels a task needs: trainings on parts of its examples, from two starts.

The experiment of arXiv 1901.11504, section 4.5 (figure 2, table 7): a model that knows other tasks
beside the plain encoder.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging

from mtdnn_tf.distribution.signals import Stop
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.data import Subset
from mtdnn_tf.experiment.settings import Experiment, InitSettings
from mtdnn_tf.files import write_atomically
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.training.loop import train

PLAIN, MULTI_TASK = "plain", "multi_task"
RESULTS_FILE, TABLE_FILE, PLOT_FILE = "results.json", "results.md", "curves.png"


@dataclass(frozen=True)
class Point:
    """One start and one size.

    Attributes:
        start: `plain` (the pretrained encoder) or `multi_task` (the run).
        examples: Number of training examples; in a ranking task of candidates, of the first sampling.
        scores: The task's dev score after the last epoch of each sampling, a fraction.
    """

    start: str
    examples: int
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over samplings."""
        return float(np.mean(self.scores))

    @property
    def deviation(self) -> float:
        """Standard deviation over samplings (n - 1); 0 for one."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else 0.0


class DomainAdaptation:
    """All trainings of an adaptation experiment, each in a run directory of its own.

    Args:
        experiment: Of the one task to adapt to.
        run: The multi-task run to start from.
        sizes: Parts of the training examples; a sampling's number is its seed.
        samplings: How many samplings of each size.
        workdir: Folder for the run directories and results.
        strategy: The distribution strategy; by default the current one.

    Raises:
        UserError: There is not exactly one task, or it has no dev split.
    """

    def __init__(
        self,
        experiment: Experiment,
        run: str,
        sizes: Sequence[Subset],
        samplings: int,
        workdir: Path,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        if len(experiment.heads) != 1:
            names = ", ".join(experiment.tasks)
            raise UserError(f"domain adaptation takes a config of one task, not of {names}")
        (self._task,) = experiment.heads
        if not self._task.splits_like("dev"):
            raise UserError(f"{self._task.name} has no dev split to compare on")
        self._experiment, self._run, self._workdir = experiment, run, workdir
        self._sizes, self._samplings = tuple(sizes), samplings
        self._strategy = strategy or tf.distribute.get_strategy()

    def run(self, stop: Stop = ()) -> list[Point]:
        """Trains what is not trained yet; writes `results.json`, `results.md` and `curves.png`.

        Args:
            stop: See `train`.

        Raises:
            UserError: See `train`; a part leaves no example of a label.
            Interrupted: It was told to stop, and the state was saved.
        """
        points = []
        for size in self._sizes:
            for start in (PLAIN, MULTI_TASK):
                samplings = range(self._samplings)
                results = [self._train(start, size, seed, stop) for seed in samplings]
                examples, scores = zip(*results, strict=True)
                points.append(Point(start, examples[0], scores))
        record = {
            "task": self._task.name,
            "metrics": self._task.metrics,
            "multi_task_run": self._run,
            "encoder": self._experiment.encoder.pretrained,
            "points": [
                asdict(p) | {"mean": p.mean, "deviation": p.deviation, "n": len(p.scores)}
                for p in points
            ],
        }
        write_atomically(self._workdir / RESULTS_FILE, json.dumps(record, indent=2) + "\n")
        write_atomically(self._workdir / TABLE_FILE, markdown(table(points)))
        plot(points, f"{self._task.name} dev, {', '.join(self._task.metrics)}",
             self._workdir / PLOT_FILE)  # fmt: skip
        return points

    def _train(self, start: str, size: Subset, seed: int, stop: Stop) -> tuple[int, float]:
        """Trains one run and returns its number of examples and its last dev score."""
        part = f"{size.count}" if size.count else f"{size.fraction:g}"
        workdir = self._workdir / start / part / f"sampling_{seed}"
        logging.info("%s", workdir)
        init = InitSettings(run=self._run, heads=()) if start == MULTI_TASK else InitSettings()
        experiment = self._experiment
        subsets = {self._task.name: size.model_copy(update={"seed": seed})}
        experiment = experiment.model_copy(
            update={
                "init": init,
                "data": experiment.data.model_copy(update={"subsets": subsets}),
                "training": experiment.training.model_copy(update={"seed": seed}),
            }
        )
        train(experiment, workdir, self._strategy, stop)
        directory = RunDirectory(workdir)
        last = directory.metrics.read("dev")[-1]
        data = directory.read_json(directory.data_file)
        return data[f"{self._task.name}/train"]["examples"], last["scores"][self._task.name]


def table(points: Sequence[Point]) -> Iterator[dict[str, str]]:
    """One row a size: examples, n, and mean and standard deviation of both starts, in percent."""
    for plain, multi in zip(points[::2], points[1::2], strict=True):
        yield {
            "examples": f"{plain.examples:,}",
            "n": str(len(plain.scores)),
            "plain encoder": f"{100 * plain.mean:.1f} ± {100 * plain.deviation:.1f}",
            "multi-task run": f"{100 * multi.mean:.1f} ± {100 * multi.deviation:.1f}",
        }


def markdown(rows: Iterable[dict[str, str]]) -> str:
    """Rows with the same keys as a Markdown table, numbers to the right."""
    first, *others = rows
    lines = [list(first), ["---:"] * len(first), *(list(row.values()) for row in (first, *others))]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def plot(points: Sequence[Point], metric: str, path: Path) -> None:
    """Draws the score against the number of examples, a curve a start.

    Args:
        points: Plain and multi-task in turn, size by size.
        metric: What the vertical axis is.
        path: The PNG file.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for start, label in ((PLAIN, "plain encoder"), (MULTI_TASK, "multi-task run")):
        mine = [point for point in points if point.start == start]
        axes.errorbar(
            [point.examples for point in mine],
            [100 * point.mean for point in mine],
            yerr=[100 * point.deviation for point in mine],
            marker="o",
            capsize=3,
            label=label,
        )
    axes.set_xscale("log")
    sizes = [point.examples for point in points[::2]]
    axes.set_xticks(sizes, labels=[f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("training examples")
    axes.set_ylabel(f"{metric} (mean and sd of {len(points[0].scores)} samplings)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
