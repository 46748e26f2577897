"""What distillation costs a training step: none, soft targets from the cache, live teachers.

    python benchmarks/distillation.py --config=runs/kd/student/seed_0/config.yaml

The config is that of a student whose teachers are trained and have filled the cache. All three are
measured in one process, in turns; printed are the medians and their ratio to training without teachers.
"""

import statistics
import tempfile
import time
from pathlib import Path

from absl import flags

from mtdnn_tf.binaries import cli
from mtdnn_tf.experiment.file import load_experiment


def _define_flags() -> None:
    cli.define_path("config", None, "The student's experiment, a YAML file.", required=True)
    cli.define_path("data_dir", None, "Folder that the tasks' file names start from.")
    flags.DEFINE_multi_string("set", [], "Overrides one setting: --set=batch.rows=8")
    flags.DEFINE_integer("rounds", 9, "Times that each is measured.", lower_bound=1)
    flags.DEFINE_integer("steps", 10, "Training steps of a round.", lower_bound=1)


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    path = Path(values.config)
    variants = {
        "no teachers": "distillation={}",
        "cached": "distillation.targets=cached",
        "live": "distillation.targets=live",
    }
    experiments = {
        name: load_experiment(path, [*values.set, assignment], values.data_dir)
        for name, assignment in variants.items()
    }
    import tensorflow as tf

    from mtdnn_tf.runs.directory import RunDirectory
    from mtdnn_tf.training.run import TrainingRun

    with tempfile.TemporaryDirectory() as folder:
        trainers = {
            name: TrainingRun(experiment, RunDirectory(folder)).trainer()
            for name, experiment in experiments.items()
        }
        seconds: dict[str, list[float]] = {name: [] for name in trainers}
        for trainer in trainers.values():
            trainer.train(tf.constant(2))  # Traces and warms up.
        for _ in range(values.rounds):
            for name, trainer in trainers.items():
                start = time.perf_counter()
                trainer.train(tf.constant(values.steps))
                seconds[name].append((time.perf_counter() - start) / values.steps)
    # The batches of a round are the same for all, so its ratio is free of how long they are.
    for name, of_one in seconds.items():
        ratio = statistics.median(
            one / alone for one, alone in zip(of_one, seconds["no teachers"], strict=True)
        )
        print(f"{name:12} {1000 * statistics.median(of_one):8.1f} ms a step   {ratio:6.3f}")
    return 0


if __name__ == "__main__":
    cli.run(_main, _define_flags, __doc__ or "")
