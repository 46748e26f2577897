"""Evaluates a trained model on the dev splits of its tasks.

mtdnn-evaluate --workdir=runs/glue --data_dir=GLUE --output=metrics.json
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from mtdnn_tf.binaries import cli
from mtdnn_tf.files import write_atomically

if TYPE_CHECKING:
    from mtdnn_tf.distribution.workers import Workers


def _define_flags() -> None:
    cli.define_paths("workdir", None, "The run directory; several are an ensemble.", required=True)
    cli.define_path("data_dir", None, "Folder of the data; by default where the run found it.")
    cli.define_path("tfds_dir", None, "Folder of TFDS data; by default where the run found it.")
    flags.DEFINE_list("tasks", [], "Tasks to evaluate; by default all.")
    cli.define_path("output", None, "Write the metrics to this JSON file.")
    cli.define_path("predictions", None, "Write a file of predictions a task and split here.")
    cli.define_strategy_flags()
    flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Which checkpoint.")
    cli.define_precision_flag()


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    strategy = cli.strategy_of(values)
    from mtdnn_tf.distribution.workers import Workers

    workers = Workers(strategy)
    with strategy.scope(), workers.loss_of_one_told():
        _evaluate(values, workers)
        workers.wait()  # No worker leaves while the chief writes.
    return 0


def _evaluate(values: flags.FlagValues, workers: "Workers") -> None:
    from rich.console import Console

    from mtdnn_tf.data.splits import open_dev
    from mtdnn_tf.errors import UserError
    from mtdnn_tf.evaluation.evaluator import evaluate
    from mtdnn_tf.evaluation.prediction_files import write_predictions
    from mtdnn_tf.evaluation.progress import metrics_table
    from mtdnn_tf.runs.ensemble import load_ensemble

    workers.check_same(json.dumps([values.tasks, values.checkpoint, values.precision]), "the flags")
    loaded = load_ensemble(values.workdir, values.checkpoint, values.precision)
    workers.check_same_weights(loaded.model)
    tasks = [loaded.task(name) for name in values.tasks] or list(loaded.experiment.heads)
    settings = loaded.experiment.data
    moved = {"data_dir": values.data_dir, "tfds_dir": values.tfds_dir}
    settings = settings.model_copy(update={key: path for key, path in moved.items() if path})
    sources = workers.chief_first(lambda: open_dev(tasks, settings, loaded.tokenizer))
    workers.check_same(json.dumps([store.key for _, _, store in sources]), "the examples")
    if not sources:
        raise UserError(f"no dev split of {', '.join(task.name for task in tasks)} to evaluate on")
    result = evaluate(loaded.runner, sources)
    if not workers.is_chief:
        return
    for (task, split, store), logits in zip(sources, result.logits, strict=True):
        if values.predictions:
            path = Path(values.predictions) / f"{task.name}_{split}.tsv"
            write_predictions(path, task, store, logits)
    if values.output:
        report = {
            "workdir": ",".join(values.workdir),
            "checkpoint": values.checkpoint,
            "mean": result.mean,
            "scores": result.scores,
            "metrics": result.metrics,
            "examples": result.examples,
        }
        write_atomically(Path(values.output), json.dumps(report, indent=2) + "\n")
    title = f"{', '.join(values.workdir)} ({values.checkpoint}): mean {100 * result.mean:.1f}"
    Console().print(metrics_table(title, result.metrics, result.examples))


def main() -> None:
    """Entry point."""
    cli.run(_main, _define_flags, __doc__ or "")


if __name__ == "__main__":
    main()
