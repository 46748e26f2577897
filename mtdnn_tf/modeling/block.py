"""The transformer block of BERT on a flat list of tokens."""

from collections.abc import Sequence

import keras
from keras import KerasTensor, layers, ops

from mtdnn_tf.modeling.activations import activate
from mtdnn_tf.modeling.attention import AttentionLayout, FirstTokens, SelfAttention, weights_of
from mtdnn_tf.modeling.config import BertConfig
from mtdnn_tf.modeling.dropout import DrawnSeed, draw, drop
from mtdnn_tf.modeling.fusion import fused


class TransformerBlock(layers.Layer):
    """Attention and feed-forward, each followed by dropout, residual and LayerNorm (post-LN).

    Args:
        config: The encoder's sizes.
        recompute: In training, keep no activations of the block but its input, and compute them
            again for the gradient: less memory for a third more time.
    """

    def __init__(self, config: BertConfig, recompute: bool = False, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.recompute = recompute
        policy = self.dtype_policy
        self.attention = SelfAttention(config, dtype=policy, name="attention")
        self.attention_norm, self.output_norm = (
            layers.LayerNormalization(epsilon=config.layer_norm_eps, dtype=policy, name=name)
            for name in ("attention_norm", "output_norm")
        )
        self.intermediate, self.project = (
            layers.Dense(units, kernel_initializer=config.initializer(), dtype=policy, name=name)
            for units, name in (
                (config.intermediate_size, "intermediate"),
                (config.hidden_size, "output"),
            )
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the weights for tokens of `[..., hidden]`."""
        for layer in (self.attention, self.attention_norm, self.intermediate, self.output_norm):
            layer.build(input_shape)
        self.project.build((*input_shape[:-1], self.config.intermediate_size))

    def call(
        self,
        tokens: KerasTensor,
        layout: AttentionLayout | FirstTokens,
        seed: keras.random.SeedGenerator,
        training: bool | None = None,
    ) -> KerasTensor:
        """Returns `[tokens, hidden]` for `tokens` `[tokens, hidden]`.

        For first tokens, `[examples, hidden]`, and nothing is computed again.
        """
        if isinstance(layout, FirstTokens):
            return self._block(tokens, layout, [seed] * 3, training)
        grids = len(layout.grids)
        if not (self.recompute and training):
            return self._block(tokens, layout, [seed] * (grids + 2), training)
        # In the order in which they are drawn without recomputation.
        rates = [self.config.attention_dropout] * grids + [self.config.hidden_dropout] * 2
        seeds = [DrawnSeed(seed) if rate else seed for rate in rates]

        def block(tokens: KerasTensor) -> KerasTensor:
            return self._block(tokens, layout, seeds, training)

        # TensorFlow's remat takes dense gradients only, and those of a gather are not; reshape's are.
        return ops.reshape(keras.remat(block)(tokens), ops.shape(tokens))

    def _block(
        self,
        tokens: KerasTensor,
        layout: AttentionLayout | FirstTokens,
        seeds: Sequence[keras.random.SeedGenerator],
        training: bool | None,
    ) -> KerasTensor:
        *of_grids, first, second = seeds
        context = self.attention(tokens, layout=layout, seeds=of_grids, training=training)
        project, norm = self.attention.project, self.attention_norm
        if isinstance(layout, FirstTokens):
            tokens = ops.take(tokens, layout.slots, axis=0)
        tokens = self._add(tokens, context, project, norm, first, training)
        wide = self._widen(tokens, training)
        return self._add(tokens, wide, self.project, self.output_norm, second, training)

    def _widen(self, tokens: KerasTensor, training: bool | None) -> KerasTensor:
        """`[tokens, hidden]` to `[tokens, intermediate]`."""
        name = self.config.hidden_act
        if not training:
            return activate(self.intermediate(tokens), name, training)
        kernel, bias = weights_of(self.intermediate)
        return add_bias_and_activate(ops.matmul(tokens, kernel), bias, name=name)

    def _add(
        self,
        tokens: KerasTensor,
        inputs: KerasTensor,
        project: layers.Dense,
        norm: layers.LayerNormalization,
        seed: keras.random.SeedGenerator,
        training: bool | None,
    ) -> KerasTensor:
        """The end of a sub-block: `norm(tokens + dropout(project(inputs)))`."""
        rate = self.config.hidden_dropout
        if not training:
            return norm(tokens + project(inputs))
        kernel, bias = weights_of(project)
        # The number of tokens is known of `tokens`, and not of what comes from attention.
        update = ops.reshape(ops.matmul(inputs, kernel), ops.shape(tokens))
        values = (tokens, update, bias, norm.gamma, norm.beta, *draw(rate, seed))
        return add_and_normalize(*values, rate=rate, epsilon=norm.epsilon)


# What comes after a matrix product, all of it in float32.


@fused
def add_bias_and_activate(inputs: KerasTensor, bias: KerasTensor, name: str) -> KerasTensor:
    """The activation of that name of `inputs + bias`, `[tokens, units]` and `[units]`."""
    total = ops.cast(inputs, "float32") + ops.cast(bias, "float32")
    return ops.cast(activate(total, name, training=True), inputs.dtype)


@fused
def add_and_normalize(
    tokens: KerasTensor,
    update: KerasTensor,
    bias: KerasTensor,
    gamma: KerasTensor,
    beta: KerasTensor,
    *seeds: KerasTensor,
    rate: float,
    epsilon: float,
) -> KerasTensor:
    """LayerNorm of `tokens + dropout(update + bias)`, `[tokens, hidden]`; the others `[hidden]`.

    `seeds` are of `draw`.
    """
    update = ops.cast(update, "float32") + ops.cast(bias, "float32")
    total = ops.cast(tokens, "float32") + drop(update, rate, *seeds)
    normal = ops.layer_normalization(total, gamma, beta, axis=-1, epsilon=epsilon)
    return ops.cast(normal, tokens.dtype)
