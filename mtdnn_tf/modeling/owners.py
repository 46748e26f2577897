"""Which example a token is of, and what an example sees of its own tokens."""

from collections.abc import Callable

from keras import KerasTensor, ops


def token_owners(inputs: dict[str, KerasTensor]) -> KerasTensor:
    """The example of each token, `[tokens] int32`: its entry in `first_slot`; none: their number.

    In a packed batch a token is found by the slot that its example begins in, which is its own slot
    less its position. Where entries of `first_slot` are equal, the first has the tokens: entries
    that stand for no example repeat slot 0 and come last.

    Args:
        inputs: A packed or ragged batch, see `BertEncoder`.
    """
    if "row_ids" in inputs:
        return inputs["row_ids"]
    number = ops.reshape(inputs["example_ids"], (-1,))
    position = ops.reshape(inputs["position_ids"], (-1,))
    slots = ops.shape(number)[0]
    examples = ops.shape(inputs["first_slot"])[0]
    entry = ops.arange(examples, dtype="int32")
    beginning = ops.segment_min(entry, inputs["first_slot"], slots)  # Huge where none begins.
    owner = ops.take(beginning, ops.arange(slots, dtype="int32") - position)
    return ops.where(ops.equal(number, 0), examples, ops.minimum(owner, examples))


def attend_to_own(
    query: KerasTensor,
    keys: KerasTensor,
    values: KerasTensor,
    owner: KerasTensor,
    heads: int = 1,
    drop: Callable[[KerasTensor], KerasTensor] = lambda weights: weights,
) -> KerasTensor:
    """Each example's `sum_j a_j values_j`, a = softmax of `query . keys_j` over its tokens j.

    The cost is linear in tokens. An example without tokens gets 0.

    Args:
        query: `[examples, hidden]`, one an example.
        keys: `[tokens, hidden]`.
        values: `[tokens, hidden]`.
        owner: `[tokens] int32`, the example that a token is of; `examples` for one that is no one's.
        heads: So many parts of `hidden` have weights of their own.
        drop: Dropout of the weights, `[tokens, heads]`.

    Returns:
        `[examples, hidden]`.
    """
    examples, hidden = ops.shape(query)[0], query.shape[-1]
    query = ops.pad(query, [[0, 1], [0, 0]])  # No one's query.
    parts = (-1, heads, hidden // heads)
    scores = ops.sum(ops.reshape(keys * ops.take(query, owner, axis=0), parts), axis=-1)
    highest = ops.segment_max(ops.stop_gradient(scores), owner, examples + 1)
    weights = ops.exp(scores - ops.take(highest, owner, axis=0))
    total = ops.segment_sum(weights, owner, examples + 1)[:-1]
    weighted = ops.expand_dims(drop(weights), 2) * ops.reshape(values, parts)
    summed = ops.segment_sum(ops.reshape(weighted, (-1, hidden)), owner, examples + 1)[:-1]
    total = ops.where(ops.greater(total, 0.0), total, 1.0)  # No tokens: 0 / 1.
    mean = ops.reshape(summed, parts) / ops.expand_dims(total, 2)
    return ops.reshape(mean, (-1, hidden))
