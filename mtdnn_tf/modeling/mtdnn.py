"""MT-DNN: one encoder, a named output per task."""

import pkgutil
from collections.abc import Mapping, Sequence
from typing import Literal

import keras

from mtdnn_tf.modeling.bert import BertEncoder, Pooling
from mtdnn_tf.modeling.config import BertConfig
from mtdnn_tf.modeling.heads import WordsHead
from mtdnn_tf.tasks.heads import HEADS
from mtdnn_tf.tasks.spec import TaskSpec

Form = Literal["packed", "ragged"]


def build_mtdnn(
    config: BertConfig,
    tasks: Sequence[TaskSpec],
    *,
    form: Form = "packed",
    pooling: Pooling | None = None,
    dtype: str | None = None,
    recompute: bool = False,
    encoder: BertEncoder | None = None,
    heads: Mapping[str, keras.layers.Layer] | None = None,
    rows: int | None = None,
    length: int | None = None,
    examples: int | None = None,
    windows: bool = False,
) -> keras.Model:
    """Builds the functional model of MT-DNN (arXiv 1901.11504).

    Its input is a dict of the tensors that `BertEncoder` lists for `form`; its output a dict
    `{task name: logits [examples, output_size] float32}`. Every head sees every example; the loss
    picks an example's own task. The encoder is the layer `encoder`, the head of a task the layer
    `head_<task name>`.

    Args:
        config: The encoder's sizes.
        tasks: The tasks, names all different.
        form: Which form of input the model takes.
        pooling: What an example's vector is (see `BertEncoder`); by default the encoder's, or
            `cls_pooler`.
        dtype: The encoder's Keras policy; by default the given encoder's, or `float32`.
        recompute: See `BertEncoder`; for an encoder that is made here.
        encoder: An encoder to share with another model, such as the packed model's.
        heads: Heads to share, by task name; missing ones are made.
        rows: Static number of rows, where it is known (packed form).
        length: Static number of slots of a row, where it is known (packed form).
        examples: Static number of examples, where it is known.
        windows: Whether an example may be several windows.

    Raises:
        ValueError: Two tasks share a name, or the encoder given is not as the arguments say.
    """
    names = [task.name for task in tasks]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"tasks need names that differ, one task at least: {names}")
    if encoder is None:
        encoder = BertEncoder(config, pooling or "cls_pooler", recompute, dtype=dtype or "float32")
    _check_encoder(encoder, config, pooling, dtype)
    inputs = {
        name: keras.Input(batch_shape=shape, dtype="int32", name=name)
        for name, shape in input_shapes(form, rows, length, examples, windows).items()
    }
    encoded = encoder(inputs, sequence=any(HEADS[task.head].reads_words for task in tasks))
    shared = heads or {}
    outputs = {}
    for task in tasks:
        head = shared.get(task.name) or make_head(task, config)
        outputs[task.name] = apply_head(head, encoded, inputs)
    return keras.Model(inputs, outputs, name="mtdnn")


def make_head(task: TaskSpec, config: BertConfig) -> keras.layers.Layer:
    """Makes the output layer that a task asks for."""
    head = HEADS[task.head]
    layer = pkgutil.resolve_name(head.layer) if isinstance(head.layer, str) else head.layer
    return layer(
        task.output_size,
        task.dropout,
        **head.settings(task),
        initializer_range=config.initializer_range,
        name=f"head_{task.name}",
    )


def apply_head(
    head: keras.layers.Layer,
    encoded: Mapping[str, keras.KerasTensor],
    inputs: dict[str, keras.KerasTensor],
    training: bool | None = None,
) -> keras.KerasTensor:
    """What a head says of encoded examples: `[examples, output_size]` float32.

    Args:
        head: A head from `make_head`.
        encoded: What `BertEncoder` returns.
        inputs: What it was given.
        training: Whether dropout acts.
    """
    if isinstance(head, WordsHead):
        return head(encoded["sequence"], inputs, training=training)
    return head(encoded["examples"], training=training)


def input_shapes(
    form: Form,
    rows: int | None = None,
    length: int | None = None,
    examples: int | None = None,
    windows: bool = False,
) -> dict[str, tuple[int | None, ...]]:
    """Names and shapes of a form's input tensors, all int32 (None: not known in advance)."""
    shapes: dict[str, tuple[int | None, ...]]
    if form == "packed":
        names = ("token_ids", "type_ids", "position_ids", "example_ids")
        shapes = dict.fromkeys(names, (rows, length))
    elif form == "ragged":
        names = ("token_ids", "type_ids", "position_ids", "row_ids")
        shapes = dict.fromkeys(names, (None,)) | {"grid": (examples, None)}
    else:
        raise ValueError(f"form must be packed or ragged, not {form!r}")
    of_examples = ("first_slot", "windows") if windows else ("first_slot",)
    return shapes | dict.fromkeys(of_examples, (examples,))


def encoder_of(model: keras.Model) -> BertEncoder:
    """The encoder of a model from `build_mtdnn`; called on inputs, it gives `sequence` as well."""
    return model.get_layer("encoder")


def heads_of(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """The heads of a model from `build_mtdnn`, by task name."""
    return {name: model.get_layer(f"head_{name}") for name in model.output}


def _check_encoder(
    encoder: BertEncoder, config: BertConfig, pooling: Pooling | None, dtype: str | None
) -> None:
    """Raises where a shared encoder contradicts what the caller asked for."""
    found = {
        "config": (encoder.config, config),
        "pooling": (encoder.pooling, pooling or encoder.pooling),
        "dtype": (encoder.dtype_policy.name, dtype or encoder.dtype_policy.name),
    }
    for what, (has, wanted) in found.items():
        if has != wanted:
            raise ValueError(f"the encoder's {what} is {has}, not {wanted}")
