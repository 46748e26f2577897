"""A run tried out: everything is built, a few steps are taken, nothing is written."""

import math
import resource
import tempfile
import time

import tensorflow as tf

from mtdnn_tf.experiment.settings import Experiment
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.training.run import TrainingRun
from mtdnn_tf.training.setup import reproducible

STEPS = 2  # After a first one, which is slow: it is traced.


def dry_run(experiment: Experiment, strategy: tf.distribute.Strategy | None = None) -> str:
    """Builds everything a run needs and takes a few steps; nothing stays on the disk but tokens.

    Returns:
        What was built, and how long a step takes.

    Raises:
        UserError: Something the user gave is wrong.
    """
    with tempfile.TemporaryDirectory() as folder, reproducible(experiment.training):
        run = TrainingRun(experiment, RunDirectory(folder), strategy)
        description = run.plan.describe()
        if run.teaching is not None and run.teaching.labels_first:
            run.teaching.begin_unlabelled()
            description += (
                "\nsoft targets: 0 for all, since the teachers label nothing in a dry run"
            )
        trainer = run.trainer()
        trainer.train(tf.constant(1))
        start = time.monotonic()
        output = trainer.train(tf.constant(STEPS))
        seconds = (time.monotonic() - start) / STEPS
    losses = ", ".join(f"{name} {loss:.3f}" for name, loss in output["loss"].items())
    parameters = sum(math.prod(variable.shape) for variable in run.model.trainable_variables)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return (
        f"{description}\n"
        f"{parameters:,} parameters; {STEPS} steps taken: loss {losses}\n"
        f"{seconds:.2f} s a step, {seconds * run.plan.total_steps / 3600:.1f} hours for all without "
        f"evaluation; {peak:.1f} GiB of main memory at most"
    )
