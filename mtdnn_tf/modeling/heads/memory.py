"""The words of each example, for a head that attends to them."""

from dataclasses import dataclass

from keras import KerasTensor, layers, ops

from mtdnn_tf.modeling.owners import attend_to_own, token_owners


class WordsHead(layers.Layer):
    """A head that is called as `SANHead` is, with the words of examples instead of their vectors."""


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

        An example without words gets 0.

        Args:
            query: `[examples, hidden]`.

        Returns:
            `[examples, hidden]`.
        """
        return attend_to_own(query, self.vectors, self.vectors, self.owner)


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
