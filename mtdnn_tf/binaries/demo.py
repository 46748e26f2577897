"""The main job on embedded data, in some minutes on two CPU cores.

    mtdnn-demo --workdir=runs/demo "A sentence of yours." "A pair | of sentences."

Writes a small benchmark in GLUE's layout, fine-tunes all-MiniLM-L6-v2 on its four tasks at once,
trains a small ensemble of teachers for one of them, and distils it into a student for all four. The
student predicts the sentences given: a single one by the single-sentence tasks, a pair, written with
` | ` between its sentences, by the tasks over pairs.
"""

import importlib.resources
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from mtdnn_tf.binaries import cli
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.file import assignments, build_experiment
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.validation.yaml_file import read_yaml

if TYPE_CHECKING:
    from rich.table import Table

    from mtdnn_tf.distribution.signals import Stop
    from mtdnn_tf.experiment.settings import Experiment
    from mtdnn_tf.runs.loading import MTDNN

SENTENCES = (
    "The nurses near the old bridge sing.",
    "The nurses near the old bridge sings.",
    "The film was not boring at all.",
    "I hoped for a moving story, but it was dull.",
    "The teacher thanked the nurse. | The nurse was thanked by the teacher.",
    "Every dog in the garden slept. | No animal in the garden slept.",
)
SEPARATOR = " | "


# The teachers: copies of the first run, fine-tuned for this task with a seed and dropout of their own.
TAUGHT = "cola"
TEACHERS = (
    {"training.seed": 1, "encoder.hidden_dropout": 0.1},
    {"training.seed": 2, "encoder.hidden_dropout": 0.2},
)


def _define_flags() -> None:
    cli.define_path("workdir", "runs/demo", "Folder for the data and the runs.")


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    from rich.console import Console

    from mtdnn_tf.demo_data.benchmark import write_benchmark
    from mtdnn_tf.distribution.signals import stop_signals
    from mtdnn_tf.reporting.page import write_report

    console = Console()
    sentences = [tuple(map(str.strip, t.split(SEPARATOR))) for t in arguments or SENTENCES]
    for parts in sentences:
        if len(parts) > 2:
            raise UserError(f"expected a sentence, or two with {SEPARATOR!r} between: {parts}")
    folder = Path(values.workdir)
    data_dir = folder / "glue"
    if not data_dir.is_dir():
        write_benchmark(data_dir)
        console.print(f"wrote a small benchmark in GLUE's layout to {data_dir}", highlight=False)
    with stop_signals() as stop:
        _train(folder, data_dir, stop)
    student, table = _compare(folder)
    report = write_report(folder / "student")
    console.print()
    console.print(table)
    console.print()
    console.print(_answers_table(student, sentences))
    console.print(
        f"\nThe runs are in {folder}: run, teacher_1, teacher_2 and student (each with config.yaml,\n"
        "metrics.jsonl, checkpoints, predictions). Open the student's report in a browser:\n"
        f"  {report}\n"
        "What to try next:\n"
        """  make demo SENTENCES='"Your sentence." "A pair | of sentences."'\n"""
        f"  .venv/bin/mtdnn-predict --workdir={folder / 'student'} --task=sst2 --input=-\n"
        f"  .venv/bin/tensorboard --logdir={folder}\n"
        "  the README: training on GLUE and on a task of your own",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return 0


def _teachers(folder: Path) -> list[Path]:
    return [folder / f"teacher_{number}" for number in range(1, len(TEACHERS) + 1)]


def _train(folder: Path, data_dir: Path, stop: "Stop") -> None:
    """Trains the first run, the teachers and the student, whatever of it is not done yet."""
    import tensorflow as tf

    from mtdnn_tf.distillation.labelling import label
    from mtdnn_tf.recipes.finetuning import finetune_experiment, single_task
    from mtdnn_tf.training.loop import train

    def stage(what: str, experiment: "Experiment", workdir: Path) -> None:
        print(f"\n{what}")
        train(experiment, workdir, stop=stop)

    run = folder / "run"
    resource = importlib.resources.files("mtdnn_tf.demo_data") / "experiment.yaml"
    with importlib.resources.as_file(resource) as config:
        tree = read_yaml(config)
    tree.setdefault("data", {})["data_dir"] = str(data_dir)
    experiment = build_experiment(tree, "the demo's experiment")
    stage("A multi-task model on all four tasks:", experiment, run)
    shorter = {"training.epochs": 1}
    for path, variant in zip(_teachers(folder), TEACHERS, strict=True):
        teacher = finetune_experiment(str(run), None, assignments(shorter, variant))
        what = f"A teacher for {TAUGHT}, which starts from that model:"
        stage(what, single_task(teacher, TAUGHT), path)
    teaching = {
        "distillation.teachers": {TAUGHT: list(map(str, _teachers(folder)))},
        "distillation.targets": "cached",
        "distillation.cache_dir": str(folder / "soft_targets"),
    }
    student = finetune_experiment(str(run), None, assignments(shorter, teaching))
    label(student, folder / "soft_targets", tf.distribute.get_strategy(), stop)
    stage("A student of both, which starts from the first model too:", student, folder / "student")


def _compare(folder: Path) -> tuple["MTDNN", "Table"]:
    """The student, and a table of its dev metrics beside the others'."""
    import numpy as np

    from mtdnn_tf.data.splits import open_run_data
    from mtdnn_tf.evaluation.baseline import majority_baseline
    from mtdnn_tf.evaluation.evaluator import evaluate
    from mtdnn_tf.evaluation.progress import metrics_table
    from mtdnn_tf.runs.ensemble import load_ensemble
    from mtdnn_tf.runs.loading import load

    student, ensemble = load(folder / "student"), load_ensemble(_teachers(folder))
    data = open_run_data(student.experiment.heads, student.experiment.data, student.tokenizer)
    taught = [source for source in data.dev if source[0].name in ensemble.tasks]
    examples: dict[str, dict[str, int]] = {}
    majority: dict[str, dict[str, dict[str, float]]] = {}
    for task, split, store in data.dev:
        train_labels = np.asarray(data.train[task.name].labels)
        baseline = majority_baseline(task, train_labels, np.asarray(store.labels), store.groups)
        majority.setdefault(task.name, {})[split] = baseline
        examples.setdefault(task.name, {})[split] = len(store)
    metrics = {
        name: RunDirectory(folder / name).best_dev()["metrics"] for name in ("run", "student")
    }
    beside = {
        "ensemble": evaluate(ensemble.runner, taught).metrics,
        "first run": metrics["run"],
        "majority": majority,
    }
    title = "Dev metrics of the student: sentences and pairs that do not occur in training"
    return student, metrics_table(title, metrics["student"], examples, beside)


def _answers_table(loaded: "MTDNN", sentences: Sequence[tuple[str, ...]]) -> "Table":
    """A table of what every fitting task says of some sentences and pairs."""
    from rich.table import Table

    table = Table(title="Predictions", title_justify="left")
    for name in ("text", "task", "answer"):
        table.add_column(name)
    for parts in sentences:
        fitting = [task for task in loaded.tasks.values() if len(task.fields) == len(parts)]
        for task in fitting:
            (answer,) = loaded.predict(task.name, [parts])
            if answer.probabilities is None:
                said = f"{answer.score:.2f} of {task.score_range[1]:g}" if task.score_range else ""
            else:
                said = f"{answer.label} ({100 * max(answer.probabilities.values()):.0f} %)"
            table.add_row(SEPARATOR.join(parts) if task is fitting[0] else "", task.name, said)
    return table


def main() -> None:
    """Entry point."""
    cli.run(_main, _define_flags, __doc__ or "")


if __name__ == "__main__":
    main()
