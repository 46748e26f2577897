"""The linear head of MT-DNN."""

from typing import Any

import keras
from keras import KerasTensor, layers

from mtdnn_tf.modeling.dropout import dropout


@keras.saving.register_keras_serializable(package="mtdnn_tf")
class LinearHead(layers.Layer):
    """Dropout, then `W x + b`: logits of classes (arXiv 1901.11504, Eq 1) or a score (Eq 2).

    The score of a similarity task is one output and is not squashed. The papers write no bias; the
    released code has one, and so has this layer unless told otherwise. Logits are float32.

    Args:
        output_size: Number of classes, or 1 for a score.
        rate: Dropout rate on the example vectors, in [0, 1).
        use_bias: Whether to add b.
        initializer_range: Standard deviation of the initial W (truncated normal).
    """

    def __init__(
        self,
        output_size: int,
        rate: float = 0.1,
        use_bias: bool = True,
        initializer_range: float = 0.02,
        **kwargs: object,
    ) -> None:
        super().__init__(**{"dtype": "float32"} | kwargs)
        self.output_size = output_size
        self.rate = rate
        self.use_bias = use_bias
        self.initializer_range = initializer_range
        self.logits = layers.Dense(
            output_size,
            use_bias=use_bias,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=initializer_range),
            dtype=self.dtype_policy,
            name="logits",
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the weights for vectors of `[examples, hidden]`."""
        self.seed_generator = keras.random.SeedGenerator(name="seed_generator")
        self.logits.build(input_shape)

    def call(self, vectors: KerasTensor, training: bool | None = None) -> KerasTensor:
        """Returns `[examples, output_size] float32` for `vectors` `[examples, hidden]`."""
        return self.logits(dropout(vectors, self.rate, self.seed_generator, training))

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return super().get_config() | {
            "output_size": self.output_size,
            "rate": self.rate,
            "use_bias": self.use_bias,
            "initializer_range": self.initializer_range,
        }
