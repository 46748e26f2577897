"""What a run is built from: seeds, the pretrained encoder, variables of the training state."""

import contextlib
import os
from collections.abc import Iterator

import keras
import tensorflow as tf
from tensorflow.python.framework import config as process

from mtdnn_tf.experiment.settings import TrainingSettings

NO_TRITON = "--xla_gpu_enable_triton_gemm=false"


@contextlib.contextmanager
def reproducible(settings: TrainingSettings) -> Iterator[None]:
    """Seeds Python, NumPy and TensorFlow, and has deterministic kernels while it lasts.

    Both are the whole process's, other threads included. The seeds stay as they are.

    Determinism turns off XLA's search for the best kernel of a product on a GPU, and the one of
    Triton's that it then takes may not fit: "Too small divisible part of the contracting dimension".
    So products are left to cuBLAS, unless `XLA_FLAGS` says otherwise or names a file.
    """
    keras.utils.set_random_seed(settings.seed)
    was_deterministic, flags = process.is_op_determinism_enabled(), os.environ.get("XLA_FLAGS")
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
        os.environ["XLA_FLAGS"] = _without_triton(flags or "")
    try:
        yield
    finally:
        if not was_deterministic:
            process.disable_op_determinism()
        if flags is None:
            os.environ.pop("XLA_FLAGS", None)
        else:
            os.environ["XLA_FLAGS"] = flags


def _without_triton(flags: str) -> str:
    names_a_file = flags.strip() and not flags.strip().startswith("-")
    if names_a_file or NO_TRITON.partition("=")[0] in flags:
        return flags
    return f"{flags} {NO_TRITON}".strip()


def uses_xla(settings: TrainingSettings) -> bool:
    """Whether the trainer compiles the step; `auto` is on where there is a GPU.

    On CPU the oneDNN graph is faster than XLA. For a TPU its strategy compiles whatever runs there.
    """
    if tf.config.list_logical_devices("TPU"):
        return False
    if settings.xla == "auto":
        return bool(tf.config.list_logical_devices("GPU"))
    return settings.xla == "on"


def counter(dtype: tf.DType, value: float) -> tf.Variable:
    """A variable of the training state, equal on all replicas."""
    return tf.Variable(
        tf.constant(value, dtype),
        trainable=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def give_replicas_own_dropout(strategy: tf.distribute.Strategy, model: keras.Model) -> None:
    """Moves the dropout seeds of every replica but the first, so that no two drop the same entries.

    The state that is saved is the first replica's, the same as after a run's start: to be called
    once in a process, after the variables have got their values.
    """
    states = [v.value for v in model.variables if v.path.endswith("seed_generator_state")]

    @tf.function
    def move() -> None:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        for state in states:
            state.assign_add(tf.stack([tf.cast(replica, state.dtype), tf.zeros([], state.dtype)]))

    if strategy.num_replicas_in_sync > 1:
        strategy.run(move)
