"""The words of each example, for a head that attends to them."""

from dataclasses import dataclass

from keras import KerasTensor, ops


@dataclass(frozen=True)
class Memory:
    """The vectors of all tokens of a batch, and whose they are.

    Attributes:
        vectors: `[tokens, hidden]`, floating.
        owner: `[tokens] int32`, the example that a token is a word of; `examples` for a token that
            is no one's.
        examples: Number of examples (int, or a scalar tensor).
    """

    vectors: KerasTensor
    owner: KerasTensor
    examples: int | KerasTensor

    def attend(self, query: KerasTensor) -> KerasTensor:
        """Returns each example's `sum_j a_j M_j`, a = softmax of `query . M_j` over its words j.

        The cost is linear in tokens. An example without words gets 0.

        Args:
            query: `[examples, hidden]`.

        Returns:
            `[examples, hidden]`.
        """
        query = ops.pad(query, [[0, 1], [0, 0]])  # No one's query.
        scores = ops.sum(self.vectors * ops.take(query, self.owner, axis=0), axis=-1)
        highest = ops.segment_max(ops.stop_gradient(scores), self.owner, self.examples + 1)
        weights = ops.exp(scores - ops.take(highest, self.owner))
        total = ops.segment_sum(weights, self.owner, self.examples + 1)[:-1]
        weighted = ops.expand_dims(weights, 1) * self.vectors
        summed = ops.segment_sum(weighted, self.owner, self.examples + 1)[:-1]
        # The total is 1 at least where there are words: the highest score adds exp(0).
        return summed / ops.expand_dims(ops.maximum(total, 1.0), 1)


def memories_of_texts(
    sequence: KerasTensor, inputs: dict[str, KerasTensor]
) -> tuple[Memory, Memory]:
    """The words of the first text of each example (type 0), and of the second (type 1).

    `[CLS]` and the first `[SEP]` are words of the first text, the last `[SEP]` is one of the second.

    Args:
        sequence: What `BertEncoder` returns under this name.
        inputs: The batch that it was given, packed or ragged.
    """
    vectors = ops.reshape(sequence, (-1, ops.shape(sequence)[-1]))
    types = ops.reshape(inputs["type_ids"], (-1,))
    owner = token_owners(inputs)
    examples = ops.shape(inputs["first_slot"])[0]
    first, second = (
        Memory(vectors, ops.where(ops.equal(types, text), owner, examples), examples)
        for text in (0, 1)
    )
    return first, second


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
