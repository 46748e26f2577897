"""How much faster the input pipeline is than the training step that it feeds, on this machine.

    python benchmarks/pipeline.py --config=configs/glue_minilm.yaml --data_dir=glue_data

Measures both in one process, in turns, and prints the medians and their ratio.
"""

import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

from absl import flags

from mtdnn_tf.binaries import cli
from mtdnn_tf.experiment.file import load_experiment


def _define_flags() -> None:
    cli.define_path("config", None, "The experiment, a YAML file.", required=True)
    cli.define_path("data_dir", None, "Folder that the tasks' file names start from.")
    flags.DEFINE_multi_string("set", [], "Overrides one setting: --set=training.epochs=2")
    flags.DEFINE_integer("rounds", 5, "Times that each is measured.", lower_bound=1)
    flags.DEFINE_integer("steps", 10, "Training steps of a round.", lower_bound=1)
    flags.DEFINE_integer("batches", 500, "Batches of a round of the pipeline.", lower_bound=1)


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    experiment = load_experiment(Path(values.config), values.set, values.data_dir)
    import numpy as np
    import tensorflow as tf

    from mtdnn_tf.data.pipeline import as_dataset
    from mtdnn_tf.runs.directory import RunDirectory
    from mtdnn_tf.training.run import TrainingRun

    with tempfile.TemporaryDirectory() as folder:
        run = TrainingRun(experiment, RunDirectory(folder))
        plan, trainer = run.plan, run.trainer()
        trainer.train(tf.constant(2))  # Traces and warms up.
        pipeline, training = [], []
        for _ in range(values.rounds):
            start = time.perf_counter()
            dataset = as_dataset(lambda: plan.batches(0), plan.shape)
            batches = islice(dataset.as_numpy_iterator(), values.batches)
            examples = sum(int(np.count_nonzero(batch["index"] >= 0)) for batch in batches)
            pipeline.append(examples / (time.perf_counter() - start))
            start = time.perf_counter()
            examples = sum(trainer.train(tf.constant(values.steps))["examples"].values())
            training.append(examples / (time.perf_counter() - start))
    fast, slow = statistics.median(pipeline), statistics.median(training)
    print(f"input pipeline alone  {fast:10,.0f} examples/s (median of {values.rounds})")
    print(f"training step         {slow:10,.1f} examples/s (median of {values.rounds})")
    print(f"ratio                 {fast / slow:10,.0f}")
    return 0


if __name__ == "__main__":
    cli.run(_main, _define_flags, __doc__ or "")
