"""The self-attention of BERT on a flat list of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import keras
from keras import KerasTensor, layers, ops

from mtdnn_tf.modeling.config import BertConfig
from mtdnn_tf.modeling.dropout import dropout
from mtdnn_tf.modeling.owners import attend_to_own

MASKED = (
    -1e9
)  # Added to a score: exp() of it is 0 in float32, and a row of nothing else stays finite.


@dataclass(frozen=True)
class AttentionGrid:
    """Rows of slots that attention sees at once.

    Attributes:
        rows: Number of rows (int, or a scalar tensor).
        length: Number of slots of a row (int, or a scalar tensor).
        bias: `[rows, 1, 1 or length, length]` float32, added to the scores: 0 where a query (third
            axis) may see a key (fourth), `MASKED` elsewhere.
        gather: `[rows, heads, length] int32`, what each head has in each slot: an index into the
            heads of all tokens, `[tokens * heads]`; None where tokens are the slots.
    """

    rows: int | KerasTensor
    length: int | KerasTensor
    bias: KerasTensor
    gather: KerasTensor | None = None


@dataclass(frozen=True)
class AttentionLayout:
    """Where the flat tokens stand in the grids that attention sees.

    Attributes:
        grids: One grid; or several, one after another, for rows of different lengths.
        starts: `[grids - 1] int32`, the first token of each grid but the first; given where there are
            several grids and tokens are the slots.
        gather: `[tokens, heads] int32`, where each head of a token stands among those of all grids,
            one grid after another; None where tokens are the slots.
        has_several: Scalar bool, false where all rows are in the first grid and the others are
            empty: they are then left out. Needed where there are several grids and a gather.
    """

    grids: tuple[AttentionGrid, ...]
    starts: KerasTensor | None = None
    gather: KerasTensor | None = None
    has_several: KerasTensor | None = None


@dataclass(frozen=True)
class FirstTokens:
    """The tokens whose vectors are wanted, one an example, of which each attends to its example's.

    Attributes:
        slots: `[examples] int32`, their places among the flat tokens.
        owner: `[tokens] int32`, the example of each token (see `token_owners`).
    """

    slots: KerasTensor
    owner: KerasTensor


class SelfAttention(layers.Layer):
    """Multi-head attention of tokens to the tokens of their own example.

    What it returns is what `project`, the last of its four projections, is for: `TransformerBlock`
    applies it together with what comes next.

    Args:
        config: The encoder's sizes.
    """

    def __init__(self, config: BertConfig, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.query, self.key, self.value, self.project = (
            layers.Dense(
                config.hidden_size,
                kernel_initializer=config.initializer(),
                dtype=self.dtype_policy,
                name=name,
            )
            for name in ("query", "key", "value", "output")
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the four projections."""
        for dense in (self.query, self.key, self.value, self.project):
            dense.build(input_shape)

    def call(
        self,
        tokens: KerasTensor,
        layout: AttentionLayout | FirstTokens,
        seeds: Sequence[keras.random.SeedGenerator],
        training: bool | None = None,
    ) -> KerasTensor:
        """Returns `[tokens, hidden]` for `tokens` `[tokens, hidden]` and a seed for each grid.

        For first tokens, `[examples, hidden]`; they need one seed.
        """
        asking = tokens
        if isinstance(layout, FirstTokens):
            asking = ops.take(tokens, layout.slots, axis=0)
        query, key, value = (
            self._project(inputs, dense, training)
            for inputs, dense in ((asking, self.query), (tokens, self.key), (tokens, self.value))
        )
        parts = (query * self.config.head_size**-0.5, key, value)
        if isinstance(layout, FirstTokens):
            return self._attend_from_first(parts, layout, seeds[0], training)

        def attend(
            grid: AttentionGrid,
            seed: keras.random.SeedGenerator,
            parts: tuple[KerasTensor, ...],
        ) -> KerasTensor:
            query, key, value = parts
            return self._attend(query, key, value, grid, seed, training)

        def attend_all() -> KerasTensor:
            of_grids = [parts] * len(layout.grids)
            if layout.starts is not None:
                of_grids = list(zip(*(ops.split(p, layout.starts) for p in parts), strict=True))
            return ops.concatenate(list(map(attend, layout.grids, seeds, of_grids)), axis=0)

        first = partial(attend, layout.grids[0], seeds[0], parts)
        if len(layout.grids) == 1:
            context = first()
        elif layout.has_several is None:
            context = attend_all()
        else:
            context = ops.cond(layout.has_several, attend_all, first)
        if layout.gather is not None:
            context = ops.take(context, layout.gather, axis=0)
        return ops.reshape(context, (-1, self.config.hidden_size))

    def _project(
        self, tokens: KerasTensor, dense: layers.Dense, training: bool | None
    ) -> KerasTensor:
        if not training:
            return dense(tokens)
        kernel, bias = weights_of(dense)
        return add_bias(ops.matmul(tokens, kernel), bias)

    def _attend(
        self,
        query: KerasTensor,
        key: KerasTensor,
        value: KerasTensor,
        grid: AttentionGrid,
        seed: keras.random.SeedGenerator,
        training: bool | None,
    ) -> KerasTensor:
        """`[tokens, hidden]` each to `[slots, hidden]`, or `[heads of the slots, head]` of a gather."""
        query, key, value = (self._split_heads(part, grid) for part in (query, key, value))
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
        scores = ops.cast(scores, "float32") + grid.bias
        weights = ops.cast(ops.softmax(scores), value.dtype)
        weights = dropout(weights, self.config.attention_dropout, seed, training)
        context = ops.matmul(weights, value)
        if grid.gather is not None:
            return ops.reshape(context, (-1, self.config.head_size))
        return ops.reshape(ops.transpose(context, (0, 2, 1, 3)), (-1, self.config.hidden_size))

    def _attend_from_first(
        self,
        parts: tuple[KerasTensor, ...],
        layout: FirstTokens,
        seed: keras.random.SeedGenerator,
        training: bool | None,
    ) -> KerasTensor:
        """`[examples, hidden]` for a query an example, and keys and values of all tokens."""
        query, key, value = (ops.cast(part, "float32") for part in parts)
        rate = self.config.attention_dropout
        drop_weights = partial(dropout, rate=rate, seed=seed, training=training)
        heads = self.config.num_heads
        context = attend_to_own(query, key, value, layout.owner, heads, drop_weights)
        return ops.cast(context, self.compute_dtype)

    def _split_heads(self, tokens: KerasTensor, grid: AttentionGrid) -> KerasTensor:
        """`[tokens, hidden]` to `[rows, heads, length, head]`."""
        if grid.gather is not None:  # Which transposes as well: that is slow on small tensors.
            return ops.take(ops.reshape(tokens, (-1, self.config.head_size)), grid.gather, axis=0)
        shape = (grid.rows, grid.length, self.config.num_heads, self.config.head_size)
        return ops.transpose(ops.reshape(tokens, shape), (0, 2, 1, 3))


def weights_of(dense: layers.Dense) -> tuple[KerasTensor, KerasTensor]:
    """Kernel and bias in the type that the layer computes in, also where it is not being called.

    Copies, as a custom gradient takes no variables; in a graph nothing is copied.
    """
    kernel, bias = (ops.cast(weight, dense.compute_dtype) for weight in (dense.kernel, dense.bias))
    return ops.copy(kernel), ops.copy(bias)


@ops.custom_gradient
def add_bias(inputs: KerasTensor, bias: KerasTensor) -> tuple[KerasTensor, object]:
    """`inputs + bias`, `[tokens, units]` and `[units]`.

    The gradient of a bias that Dense adds is summed over the tokens by TensorFlow, in bfloat16 where
    they are; on CPU a thousand of them can be wrong by half. Here a matrix product sums it.
    """

    def grad(*args: KerasTensor, upstream: KerasTensor | None = None) -> tuple[KerasTensor, ...]:
        upstream = args[0] if upstream is None else upstream
        ones = ops.ones((1, ops.shape(inputs)[0]), upstream.dtype)
        return upstream, ops.matmul(ones, upstream)[0]

    return ops.add(inputs, bias), grad
