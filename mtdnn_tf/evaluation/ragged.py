"""A model on the tokens of some examples and nothing else, whatever their number and lengths."""

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf

from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.evaluation.prediction import check_numbers
from mtdnn_tf.modeling import apply_head, encoder_of, heads_of, input_shapes, ragged_inputs

Features = dict[str, tf.Tensor]
Kept = tuple[keras.Variable, Callable[[], tf.Tensor]]


class Ragged(Protocol):
    """What answers a ragged batch: a model, or an ensemble of them.

    Attributes:
        has_windows: Whether an example may be several windows.
    """

    has_windows: bool

    def logits(self, heads: Sequence[str], features: Features) -> dict[str, tf.Tensor]:
        """Head name to [examples, outputs] float32, in a graph.

        Args:
            heads: Names of the tasks whose heads are wanted.
            features: The ragged form of `BertEncoder`'s input; and `group` [examples] int32, the first
                candidate of the same query, where an ensemble ranks.
        """


class RaggedModel:
    """The ragged form of a model from `build_mtdnn`, which has the weights.

    Args:
        model: The model.
        kept: Weights of the encoder that are not read from its own variables, with what gives them.
    """

    def __init__(self, model: keras.Model, kept: Sequence[Kept] = ()) -> None:
        self._heads = heads_of(model)
        self.has_windows = "windows" in model.input
        self._specs = _specs(self.has_windows)
        encoder = encoder_of(model)

        def encode(features: Features) -> Features:
            values = [(variable, give()) for variable, give in kept]
            with keras.StatelessScope(state_mapping=values):
                return encoder(features, training=False)

        # One function, which all heads call, so that its graph is there once.
        self._encode = tf.function(encode, input_signature=[self._specs], autograph=False)

    def encoded(self, features: Features) -> Features:
        """What `BertEncoder` returns for a ragged batch."""
        return self._encode({name: features[name] for name in self._specs})

    def logits(self, heads: Sequence[str], features: Features) -> dict[str, tf.Tensor]:
        """See `Ragged`."""
        encoded = self.encoded(features)
        return {
            name: apply_head(self._heads[name], encoded, features, training=False) for name in heads
        }


class RaggedRunner:
    """Runs a model over token stores that are small, all examples at once.

    No shape is known in advance, so that a head is traced once.

    Args:
        model: The model.
        strategy: The strategy that it was created in, of one replica.
    """

    def __init__(self, model: Ragged, strategy: tf.distribute.Strategy) -> None:
        self._model, self._strategy = model, strategy
        self._forward, self._lock = functools.cache(self._traced), threading.Lock()

    def run(self, head: str, store: TokenStore) -> np.ndarray:
        """Computes the logits of every example under a head.

        Args:
            head: Name of the head's task.
            store: The examples, one at least.

        Returns:
            [examples, outputs] float32, in the order of the store.

        Raises:
            UserError: An output is not a finite number.
        """
        ends = store.offsets[1:-1]
        features = ragged_inputs(np.split(store.token_ids, ends), np.split(store.type_ids, ends))
        features["group"] = store.first_of_query
        if self._model.has_windows:
            ones = np.ones(len(store), np.int32)
            features["windows"] = ones if store.windows is None else store.windows.astype(np.int32)
        with self._lock:  # So that threads trace a head once.
            forward = self._forward(head)
        logits = forward(features).numpy()
        check_numbers(head, store.uids, logits)
        return logits

    def _traced(self, head: str) -> Callable[[Features], tf.Tensor]:
        def replica(features: Features) -> tf.Tensor:
            return self._model.logits([head], features)[head]

        specs = _specs(self._model.has_windows) | {
            "group": tf.TensorSpec([None], tf.int32, "group")
        }
        return tf.function(
            lambda features: self._strategy.run(replica, args=(features,)),
            input_signature=[specs],
            autograph=False,
        )


def _specs(windows: bool) -> dict[str, tf.TensorSpec]:
    shapes = input_shapes("ragged", windows=windows)
    return {name: tf.TensorSpec(shape, tf.int32, name) for name, shape in shapes.items()}


def ragged_features(
    token_ids: tf.RaggedTensor, type_ids: tf.RaggedTensor, windows: tf.Tensor | None = None
) -> Features:
    """The ragged form of `BertEncoder`'s input, in the graph.

    Args:
        token_ids: [windows, (tokens)] int32, no row empty.
        type_ids: The same of segment ids.
        windows: [n] int32, how many windows each example has; None where each is one.
    """
    of_examples = {} if windows is None else {"windows": windows}
    lengths = tf.cast(token_ids.row_lengths(), tf.int32)
    first_slot = tf.cast(token_ids.row_starts(), tf.int32)
    row_ids = tf.cast(token_ids.value_rowids(), tf.int32)
    slots = tf.range(tf.size(row_ids))
    position = tf.range(tf.maximum(tf.reduce_max(lengths), 0))  # The maximum of nothing is below 0.
    inside = position < lengths[:, tf.newaxis]
    return {
        "token_ids": token_ids.flat_values,
        "type_ids": type_ids.flat_values,
        "position_ids": slots - tf.gather(first_slot, row_ids),
        "row_ids": row_ids,
        "grid": tf.where(inside, first_slot[:, tf.newaxis] + position, -1),
        "first_slot": first_slot,
        **of_examples,
    }
