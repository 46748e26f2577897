"""The main job on embedded data, in some minutes on two CPU cores.

    python -m mtdnn_tf.demo --workdir=runs/demo "A sentence of yours." "A pair | of sentences."

Writes a small benchmark in GLUE's layout, fine-tunes all-MiniLM-L6-v2 on its four tasks at once, and
predicts the sentences given: a single one by the single-sentence tasks, a pair, written with ` | `
between its sentences, by the tasks over pairs.
"""

import importlib.resources
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from mtdnn_tf import cli
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment_file import build_experiment
from mtdnn_tf.yaml_file import read_yaml

if TYPE_CHECKING:
    from rich.table import Table

    from mtdnn_tf.loading import MTDNN

SENTENCES = (
    "The nurses near the old bridge sing.",
    "The nurses near the old bridge sings.",
    "The film was not boring at all.",
    "I hoped for a moving story, but it was dull.",
    "The teacher thanked the nurse. | The nurse was thanked by the teacher.",
    "Every dog in the garden slept. | No animal in the garden slept.",
)
SEPARATOR = " | "


def _define_flags() -> None:
    flags.DEFINE_string("workdir", "runs/demo", "Folder for the data and the run.")


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    import numpy as np
    from rich.console import Console

    from mtdnn_tf.data.splits import open_run_data
    from mtdnn_tf.demo_data.benchmark import write_benchmark
    from mtdnn_tf.loading import load
    from mtdnn_tf.tasks.metrics import majority_baseline
    from mtdnn_tf.training.evaluation import evaluate
    from mtdnn_tf.training.progress import metrics_table
    from mtdnn_tf.training.signals import Interrupted
    from mtdnn_tf.training.training import train

    console = Console()
    sentences = [tuple(map(str.strip, t.split(SEPARATOR))) for t in arguments or SENTENCES]
    for parts in sentences:
        if len(parts) > 2:
            raise UserError(f"expected a sentence, or two with {SEPARATOR!r} between: {parts}")
    data_dir, workdir = Path(values.workdir) / "glue", Path(values.workdir) / "run"
    if not data_dir.is_dir():
        write_benchmark(data_dir)
        console.print(f"wrote a small benchmark in GLUE's layout to {data_dir}", highlight=False)
    resource = importlib.resources.files("mtdnn_tf.demo_data") / "experiment.yaml"
    with importlib.resources.as_file(resource) as config:
        tree = read_yaml(config)
    tree.setdefault("data", {})["data_dir"] = str(data_dir)
    experiment = build_experiment(tree, "the demo's experiment")
    try:
        train(experiment, workdir)
    except Interrupted as interrupted:
        console.print(str(interrupted), highlight=False)
        return interrupted.exit_code

    loaded = load(workdir)
    data = open_run_data(experiment.heads, experiment.data, loaded.tokenizer)
    result = evaluate(loaded.runner, data.dev)
    majority: dict[str, dict[str, dict[str, float]]] = {}
    for task, split, store in data.dev:
        train_labels = np.asarray(data.train[task.name].labels)
        baseline = majority_baseline(task, train_labels, np.asarray(store.labels), store.groups)
        majority.setdefault(task.name, {})[split] = baseline
    title = "Dev metrics of the best checkpoint: sentences that do not occur in training"
    console.print()
    console.print(metrics_table(title, result.metrics, result.examples, majority))
    console.print()
    console.print(_answers_table(loaded, sentences))
    console.print(
        f"\nThe run is in {workdir} (config.yaml, metrics.jsonl, checkpoints, predictions).\n"
        "What to try next:\n"
        """  make demo SENTENCES='"Your sentence." "A pair | of sentences."'\n"""
        f"  .venv/bin/python -m mtdnn_tf.predict --workdir={workdir} --task=sst2 --input=-\n"
        f"  .venv/bin/tensorboard --logdir={workdir}/events\n"
        "  the README: training on GLUE and on a task of your own",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return 0


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
