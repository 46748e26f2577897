"""The table of a recipe: single models, teachers, ensembles and students, side by side."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtdnn_tf.evaluation.bootstrap import Difference, paired_bootstrap
from mtdnn_tf.evaluation.prediction_files import DevPredictions, read_predictions
from mtdnn_tf.evaluation.progress import split_title
from mtdnn_tf.files import write_atomically
from mtdnn_tf.recipes.distillation import RecipeRun
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.tasks.metrics import compute
from mtdnn_tf.tasks.spec import TaskSpec


@dataclass(frozen=True)
class Line:
    """A metric of one dev split, everywhere in the recipe.

    Attributes:
        task: The task.
        split: The split.
        metric: The metric.
        examples: How many examples the split has.
        single: The value of each single model, a fraction.
        teachers: Number of a variant to the values of its runs (one a fold); empty without teachers.
        kept: The variants that teach.
        ensemble: The value of the ensemble; None without teachers.
        student: The value of each student.
        gain: Students against single models, on the same examples.
    """

    task: str
    split: str
    metric: str
    examples: int
    single: list[float]
    teachers: dict[int, list[float]]
    kept: list[int]
    ensemble: float | None
    student: list[float]
    gain: Difference


def collect(run: RecipeRun, kept: Mapping[str, Sequence[int]]) -> list[Line]:
    """Computes all metrics from the predictions that the runs left.

    Args:
        run: The recipe, carried out.
        kept: Task name to the variants that teach it.

    Raises:
        UserError: A file of predictions is missing.
    """
    lines: list[Line] = []
    for task in run.recipe.experiment().heads:
        for path in sorted(RunDirectory(run.single(run.seeds[0])).predictions.glob("*.tsv")):
            split = path.stem.removeprefix(f"{task.name}_")
            if path.stem == f"{task.name}_{split}" and split in task.splits:
                lines += _of_split(run, task, split, kept.get(task.name, ()))
    return lines


def _of_split(run: RecipeRun, task: TaskSpec, split: str, kept: Sequence[int]) -> Iterable[Line]:
    def read(folders: Iterable[Path]) -> list[DevPredictions]:
        name = f"{task.name}_{split}.tsv"
        return [read_predictions(RunDirectory(f).predictions / name, task) for f in folders]

    single = read(run.single(seed) for seed in run.seeds)
    student = read(run.student(seed) for seed in run.seeds)
    variants = range(len(run.recipe.sections.teachers.variants)) if kept else ()
    teachers = {number: read(run.teachers_of(number, task.name)) for number in variants}
    together = None
    if kept:
        together = read_predictions(run.ensemble() / f"{task.name}_{split}.tsv", task)
    for metric in task.metrics:

        def values(of: Sequence[DevPredictions], metric: str = metric) -> list[float]:
            return [compute(metric, p.labels, p.predictions, p.groups) for p in of]

        yield Line(
            task=task.name,
            split=split,
            metric=metric,
            examples=len(single[0].labels),
            single=values(single),
            teachers={number: values(of_one) for number, of_one in teachers.items()},
            kept=list(kept),
            ensemble=values([together])[0] if together is not None else None,
            student=values(student),
            gain=paired_bootstrap(metric, student, single),
        )


HEADER = ("task", "metric", "n", "single", "teachers", "ensemble", "student", "gain")


def cells(line: Line) -> list[str]:
    """A line of the table, in percent: mean and standard deviation over seeds."""
    gain = line.gain
    teachers = [
        f"{100 * np.mean(values):.1f}{'*' if number in line.kept else ''}"
        for number, values in line.teachers.items()
    ]
    return [
        split_title(line.task, line.split),
        line.metric,
        f"{line.examples:,}",
        _mean(line.single),
        " ".join(teachers) or "-",
        "-" if line.ensemble is None else f"{100 * line.ensemble:.1f}",
        _mean(line.student),
        f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]",
    ]


def _mean(values: Sequence[float]) -> str:
    mean = f"{100 * np.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * np.std(values, ddof=1):.1f}"


def write_results(lines: Sequence[Line], folder: Path) -> None:
    """Writes `results.json`, everything, and `results.md`, the table."""
    tree: list[dict[str, Any]] = [asdict(line) for line in lines]
    write_atomically(folder / "results.json", json.dumps(tree, indent=2) + "\n")
    rows = [HEADER, ["---"] * len(HEADER), *(cells(line) for line in lines)]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    write_atomically(folder / "results.md", f"{table}\n{LEGEND}\n")


LEGEND = (
    "Dev metrics in percent, mean and standard deviation over seeds; teachers marked * are those kept. "
    "Gain: student less single model, with the 95 % interval of a paired bootstrap over examples."
)
