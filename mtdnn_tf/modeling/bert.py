"""BERT's encoder (arXiv 1810.04805) for packed, padded and ragged batches."""

from itertools import pairwise
from typing import Any, Literal, Self

import keras
from keras import KerasTensor, layers, ops

from mtdnn_tf.experiment.sections import section_lengths
from mtdnn_tf.modeling.attention import (
    MASKED,
    AttentionGrid,
    AttentionLayout,
    FirstTokens,
)
from mtdnn_tf.modeling.block import TransformerBlock
from mtdnn_tf.modeling.config import BertConfig
from mtdnn_tf.modeling.dropout import draw, drop
from mtdnn_tf.modeling.fusion import fused
from mtdnn_tf.modeling.owners import token_owners
from mtdnn_tf.modeling.placement import runs_op_by_op_on_cpu

Pooling = Literal["cls_pooler", "cls", "mean"]
GROUPED, GROUPS = 8, 4  # Ragged examples from which on there are so many grids.


class Embeddings(layers.Layer):
    """Sum of word, position and type embeddings, LayerNorm, dropout.

    The tables are read in float32 whatever the policy is: casting a whole table to look up a few of
    its rows costs more than the sum.

    Args:
        config: The encoder's sizes.
    """

    def __init__(self, config: BertConfig, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.norm = layers.LayerNormalization(
            epsilon=config.layer_norm_eps, dtype=self.dtype_policy, name="norm"
        )

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        """Creates the three tables."""
        config = self.config
        self.word, self.position, self.type = (
            self.add_weight(
                shape=(size, config.hidden_size),
                initializer=config.initializer(),
                name=name,
                autocast=False,
            )
            for name, size in (
                ("word", config.vocab_size),
                ("position", config.max_position_embeddings),
                ("type", config.type_vocab_size),
            )
        )
        self.norm.build((None, config.hidden_size))

    def call(
        self,
        inputs: dict[str, KerasTensor],
        seed: keras.random.SeedGenerator,
        training: bool | None = None,
    ) -> KerasTensor:
        """Returns `[tokens, hidden]` for flat ids `[tokens] int32`."""
        total = (
            ops.take(self.word, inputs["token_ids"], axis=0)
            + ops.take(self.position, inputs["position_ids"], axis=0)
            + ops.take(self.type, inputs["type_ids"], axis=0)
        )
        rate, norm = self.config.hidden_dropout, self.norm
        if not training:
            return norm(total)
        settings = {"rate": rate, "epsilon": norm.epsilon, "dtype": self.compute_dtype}
        return normalize_and_drop(total, norm.gamma, norm.beta, *draw(rate, seed), **settings)


@fused
def normalize_and_drop(
    inputs: KerasTensor,
    gamma: KerasTensor,
    beta: KerasTensor,
    *seeds: KerasTensor,
    rate: float,
    epsilon: float,
    dtype: str,
) -> KerasTensor:
    """LayerNorm of `[tokens, hidden]` float32, then dropout by `seeds` (of `draw`), in `dtype`."""
    normal = ops.layer_normalization(inputs, gamma, beta, axis=-1, epsilon=epsilon)
    return ops.cast(drop(normal, rate, *seeds), dtype)


@keras.saving.register_keras_serializable(package="mtdnn_tf")
class BertEncoder(layers.Layer):
    """BERT on the tokens of several examples at once.

    Token-wise layers run on a flat list of tokens; only attention sees a grid. Two forms of input
    share the weights (a padded batch is a packed one with one example a row, see `padded_inputs`):

    * packed: `token_ids`, `type_ids`, `position_ids`, `example_ids` `[rows, length] int32` and
      `first_slot` `[examples] int32`. `example_ids` numbers a row's examples from 1 (0 = empty
      slot); tokens attend to tokens of the same row and number. `first_slot` is the index of an
      example's `[CLS]` in the flattened `[rows * length]` slots.
    * ragged: `token_ids`, `type_ids`, `position_ids`, `row_ids` `[tokens] int32`, `grid`
      `[examples, longest] int32` and `first_slot` `[examples] int32`. `row_ids` is a token's example
      (from 0), `position_ids` counts an example's tokens from 0, `grid` holds the index of each
      token (-1 = padding), `first_slot` the index of each `[CLS]` in the flat tokens.

    An example may be several windows, each of which is what is called an example above, and which
    come one after another. Then either form has `windows` `[examples] int32` too, how many windows
    each example has, and `examples` below is the mean over them.

    Returns a dict of
    * `sequence`: the last layer's vectors, `[rows, length, hidden]` or `[tokens, hidden]`, unless the
      call says that they are not wanted;
    * `examples`: one vector per example, `[examples, hidden]`.

    Example:

    >>> encoder = BertEncoder(BertConfig(num_layers=2, hidden_size=128, num_heads=2))
    >>> encoder(padded_inputs([[101, 7592, 102]]))["examples"].shape
    TensorShape([1, 128])

    Args:
        config: Sizes and rates.
        pooling: What an example's vector is: `cls_pooler` is tanh(W [CLS] + b), as in BERT and the
            released MT-DNN; `cls` the vector at `[CLS]`; `mean` the mean over the example's tokens.
            Only `cls_pooler` has weights (`pooler`).
        recompute: In training, compute the activations of each block again for the gradient instead
            of keeping them; not of a last one that is computed for first tokens alone.
        dtype: Keras policy, such as `float32`, `mixed_bfloat16` or `mixed_float16`. The softmax and
            the statistics of LayerNorm are float32 under each.
    """

    def __init__(
        self,
        config: BertConfig,
        pooling: Pooling = "cls_pooler",
        recompute: bool = False,
        **kwargs: object,
    ) -> None:
        super().__init__(**{"name": "encoder"} | kwargs)
        if pooling not in ("cls_pooler", "cls", "mean"):
            raise ValueError(f"pooling must be cls_pooler, cls or mean, not {pooling!r}")
        self.config = config
        self.pooling = pooling
        self.recompute = recompute
        policy = self.dtype_policy
        self.embeddings = Embeddings(config, dtype=policy, name="embeddings")
        self.blocks = [
            TransformerBlock(config, recompute, dtype=policy, name=f"layer_{number}")
            for number in range(config.num_layers)
        ]
        self.pooler: layers.Dense | None = None
        if pooling == "cls_pooler":
            self.pooler = layers.Dense(
                config.hidden_size,
                activation="tanh",
                kernel_initializer=config.initializer(),
                dtype=policy,
                name="pooler",
            )

    def build(self, input_shape: Any = None) -> None:
        """Creates all weights; the shape of the inputs does not matter."""
        self.seed_generator = keras.random.SeedGenerator(name="seed_generator")
        self.embeddings.build()
        for layer in (*self.blocks, *([self.pooler] if self.pooler else [])):
            layer.build((None, self.config.hidden_size))

    def call(
        self,
        inputs: dict[str, KerasTensor],
        training: bool | None = None,
        sequence: bool = True,
    ) -> dict[str, KerasTensor]:
        """Encodes a packed or ragged batch; see the class.

        Without `sequence` the result has `examples` alone, and the last block is computed for what
        they are made of, the first token of each.
        """
        seed = self.seed_generator
        packed = "example_ids" in inputs
        layout = (
            packed_layout(inputs["example_ids"])
            if packed
            else ragged_layout(inputs, self.config.num_heads)
        )
        flat = {
            name: ops.reshape(inputs[name], (-1,))
            for name in ("token_ids", "type_ids", "position_ids")
        }
        tokens = self.embeddings(flat, seed=seed, training=training)
        whole = sequence or self.pooling == "mean"
        *blocks, last = self.blocks
        for block in blocks:
            tokens = block(tokens, layout=layout, seed=seed, training=training)
        if not whole:
            slots = inputs["first_slot"]
            wanted = FirstTokens(slots, token_owners(inputs))
            first = last(tokens, layout=wanted, seed=seed, training=training)
            return {"examples": average_windows(self._vectors(first), inputs)}
        tokens = last(tokens, layout=layout, seed=seed, training=training)
        examples = average_windows(self._pool(tokens, inputs), inputs)
        if not sequence:
            return {"examples": examples}
        if packed:
            shape = (*ops.shape(inputs["token_ids"]), self.config.hidden_size)
            tokens = ops.reshape(tokens, shape)
        return {"sequence": tokens, "examples": examples}

    def _pool(self, tokens: KerasTensor, inputs: dict[str, KerasTensor]) -> KerasTensor:
        """Returns `[examples, hidden]` for flat `tokens` `[tokens, hidden]`."""
        if self.pooling == "mean":
            return ops.cast(_mean(tokens, inputs), self.compute_dtype)
        first = ops.take(tokens, inputs["first_slot"], axis=0)
        return self._vectors(first)

    def _vectors(self, first: KerasTensor) -> KerasTensor:
        """Examples' vectors for those at `[CLS]`, `[examples, hidden]` both."""
        return self.pooler(first) if self.pooler else first

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        own = {
            "config": self.config.model_dump(),
            "pooling": self.pooling,
            "recompute": self.recompute,
        }
        return super().get_config() | own

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Builds an encoder from `get_config`."""
        return super().from_config(config | {"config": BertConfig(**config["config"])})


def average_windows(vectors: KerasTensor, inputs: dict[str, KerasTensor]) -> KerasTensor:
    """The mean of the vectors of each example's windows, `[examples, hidden]`; of none, 0.

    Args:
        vectors: One a window, `[windows, hidden]`.
        inputs: The batch; without `windows` in it an example is one window.
    """
    if "windows" not in inputs:
        return vectors
    count = ops.expand_dims(inputs["windows"], 1)
    past = ops.cumsum(count, axis=0)
    number = ops.arange(ops.shape(vectors)[0], dtype="int32")
    member = ops.logical_and(ops.less_equal(past - count, number), ops.less(number, past))
    total = ops.matmul(ops.cast(member, "float32"), ops.cast(vectors, "float32"))
    return ops.cast(total / ops.cast(ops.maximum(count, 1), "float32"), vectors.dtype)


def packed_layout(example_ids: KerasTensor) -> AttentionLayout:
    """Attention within the examples of a packed batch, `example_ids` `[rows, length] int32`.

    Where shapes may depend on values, in TensorFlow on CPU, there is a grid for each of a row's
    `section_lengths`: the rows after the last in which an example crosses the end of a section are
    taken for several shorter ones.
    """
    rows, length = ops.shape(example_ids)
    whole = _section_grid(example_ids)
    known = isinstance(rows, int) and isinstance(length, int)
    sections = section_lengths(length) if known and runs_op_by_op_on_cpu() else []
    if len(sections) < 2:
        return AttentionLayout((whole,))
    # Ascending: what crosses the end of a section crosses that of a shorter one.
    first_rows = [0, *(_past_crossing(whole, section) for section in sections[1:]), rows]
    grids = [
        _section_grid(ops.reshape(example_ids[first:past], (-1, section)))
        for section, (first, past) in zip(sections, pairwise(first_rows), strict=True)
    ]
    return AttentionLayout(tuple(grids), ops.stack(first_rows[1:-1]) * length)


def _past_crossing(grid: AttentionGrid, section: int) -> KerasTensor:
    """The row after the last in which an example has slots in two sections: scalar int32."""
    number = ops.arange(grid.length, dtype="int32") // section
    apart = ops.not_equal(number[:, None], number)
    crosses = ops.any(ops.logical_and(ops.equal(grid.bias[:, 0], 0.0), apart), axis=(1, 2))
    rows = ops.arange(1, grid.rows + 1, dtype="int32")
    return ops.max(ops.where(crosses, rows, 0), initial=0)


def _section_grid(example_ids: KerasTensor) -> AttentionGrid:
    """A grid whose slots are tokens, `example_ids` `[rows, length] int32`."""
    rows, length = ops.shape(example_ids)
    query, key = ops.expand_dims(example_ids, 2), ops.expand_dims(example_ids, 1)
    allowed = ops.logical_and(ops.equal(query, key), ops.not_equal(key, 0))
    bias = ops.where(allowed, 0.0, MASKED)
    return AttentionGrid(rows, length, ops.expand_dims(bias, 1))


def ragged_layout(inputs: dict[str, KerasTensor], heads: int) -> AttentionLayout:
    """Attention within the examples of a ragged batch, one row each.

    `GROUPED` examples and more are divided by their lengths among `GROUPS` grids, so that short ones
    are not padded to the longest of the batch. Fewer are in one grid, and the others are empty.
    """
    lengths = ops.sum(ops.cast(ops.greater_equal(inputs["grid"], 0), "int32"), axis=1)
    order = ops.argsort(lengths, axis=0)
    slots, lengths = ops.take(inputs["grid"], order, axis=0), ops.take(lengths, order, axis=0)
    count = ops.shape(lengths)[0]
    size = ops.maximum(ops.where(ops.less(count, GROUPED), count, -(-count // GROUPS)), 1)
    parts = [slice(number * size, (number + 1) * size) for number in range(GROUPS)]
    widths = ops.stack([ops.max(lengths[part], initial=0) for part in parts])
    grids = [_grid(slots[part, : widths[number]], heads) for number, part in enumerate(parts)]
    sizes = ops.stack([ops.size(grid.gather) for grid in grids])
    # A token's row, among all and in its grid.
    row = ops.take(ops.argsort(order, axis=0), inputs["row_ids"])
    number = row // size
    start = ops.take(ops.cumsum(sizes) - sizes, number) + inputs["position_ids"]
    head = (row % size)[:, None] * heads + ops.arange(heads, dtype="int32")
    gather = start[:, None] + head * ops.take(widths, number)[:, None]
    return AttentionLayout(tuple(grids), gather=gather, has_several=ops.greater(count, size))


def _grid(slots: KerasTensor, heads: int) -> AttentionGrid:
    """A grid of `[rows, length] int32`, the token in each slot or -1."""
    rows, length = ops.shape(slots)
    bias = ops.where(ops.greater_equal(slots, 0), 0.0, MASKED)[:, None, None]
    head = ops.arange(heads, dtype="int32")[:, None]
    gather = ops.maximum(slots, 0)[:, None] * heads + head
    return AttentionGrid(rows, length, bias, gather)


def _mean(tokens: KerasTensor, inputs: dict[str, KerasTensor]) -> KerasTensor:
    """The mean over each example's tokens, `[examples, hidden]` float32."""
    if "row_ids" in inputs:  # Any number of examples: no matrix of them by tokens.
        owner, examples = inputs["row_ids"], ops.shape(inputs["first_slot"])[0]
        total = ops.segment_sum(ops.cast(tokens, "float32"), owner, examples)
        ones = ops.ones_like(owner, dtype="float32")
        count = ops.expand_dims(ops.segment_sum(ones, owner, examples), 1)
    else:
        member = ops.cast(membership(inputs), tokens.dtype)
        count = ops.sum(ops.cast(member, "float32"), axis=1, keepdims=True)
        total = ops.cast(ops.matmul(member, tokens), "float32")
    return total / ops.maximum(count, 1.0)


def membership(inputs: dict[str, KerasTensor]) -> KerasTensor:
    """Which tokens of a packed batch belong to which example, `[examples, tokens] bool`."""
    rows, length = ops.shape(inputs["example_ids"])
    number = ops.reshape(inputs["example_ids"], (-1,))
    row = ops.repeat(ops.arange(rows, dtype="int32"), length)
    first = ops.expand_dims(inputs["first_slot"], 1)
    same_row = ops.equal(ops.floor_divide(first, length), row)
    return ops.logical_and(same_row, ops.equal(ops.take(number, first), number))
