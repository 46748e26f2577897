"""Batches as a `tf.data` pipeline."""

from collections.abc import Callable, Iterator

import tensorflow as tf

from mtdnn_tf.data.batch import Batch, BatchShape


def batch_signature(shape: BatchShape) -> dict[str, tf.TensorSpec]:
    """The tensors of a batch; see `build_batch` for what they hold."""
    slots = tf.TensorSpec([shape.rows, shape.length], tf.int32)
    ints = tf.TensorSpec([shape.examples], tf.int32)
    floats = tf.TensorSpec([shape.examples], tf.float32)
    return {
        "token_ids": slots,
        "type_ids": slots,
        "position_ids": slots,
        "example_ids": slots,
        "first_slot": ints,
        "task": ints,
        "index": ints,
        "group": ints,
        "weight": floats,
        "label": floats,
    } | ({"windows": ints} if shape.has_windows else {})


def replicas_of(context: tf.distribute.InputContext) -> range:
    """The replicas that an input pipeline feeds: those of its worker."""
    here = context.num_replicas_in_sync // context.num_input_pipelines
    return range(context.input_pipeline_id * here, (context.input_pipeline_id + 1) * here)


def as_dataset(
    batches: Callable[[], Iterator[Batch]], shape: BatchShape, pieces: int = 1
) -> tf.data.Dataset:
    """Wraps batches as a dataset that is read ahead in a thread of its own.

    Args:
        batches: Gives the batches.
        shape: Their shape.
        pieces: More than 1: each is a stack of so many of that shape.
    """
    signature = batch_signature(shape)
    if pieces > 1:
        signature = {
            name: tf.TensorSpec([pieces, *spec.shape], spec.dtype)
            for name, spec in signature.items()
        }
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    return dataset.prefetch(8)
