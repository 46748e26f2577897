"""What every tokenizer does: from the pieces of texts to an encoder's input; see docs/tokenizer.md."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, get_args

import tensorflow as tf
import tensorflow_text as tf_text

from mtdnn_tf.errors import UserError
from mtdnn_tf.files import write_atomically
from mtdnn_tf.tokenizers import Truncation
from mtdnn_tf.tokenizers.cutting import keep

SETTINGS_FILE = "tokenizer.json"

_PAIR = "a pair ([CLS], a word piece, [SEP], a word piece, [SEP])"


class Encoded(NamedTuple):
    """Examples as BERT's input.

    Attributes:
        token_ids: [windows, (tokens)] int32, special ones included; the windows of an example come one
            after another.
        type_ids: [windows, (tokens)] int32; 0 up to the first [SEP], then 1.
        windows: [n] int64, how many windows each example is read as.
        whole_lengths: [n] int64, how many tokens each would have if nothing were cut.
        is_cut: [n] bool.
    """

    token_ids: tf.RaggedTensor
    type_ids: tf.RaggedTensor
    windows: tf.Tensor
    whole_lengths: tf.Tensor
    is_cut: tf.Tensor


# Columns of texts, [n] string each, to what `Tokenizer.encode` makes of them.
Encode = Callable[..., Encoded]


class Tokenizer(ABC):
    """Texts to an encoder's input, by TensorFlow ops alone.

    Usable inside `tf.function`, so in `tf.data` and in a SavedModel.

    Args:
        max_length: Most tokens of an encoded example, [CLS] and [SEP] included; at least 3, and at
            least 5 to encode pairs.
        truncation: What is kept of a longer one, see `keep`.
        windows: Most windows of `max_length` that a longer one is read as.

    Attributes:
        name: What a run directory calls this sort of tokenizer.
        vocab: The pieces; a piece's id is its position.
        pad_id: The piece of an empty slot.
        cls_id: The piece before the first text.
        sep_id: The piece after a text.

    Raises:
        UserError: `max_length` or `truncation` can't be used.
    """

    name: str
    vocab: tuple[str, ...]
    pad_id: int
    cls_id: int
    sep_id: int

    def __init__(self, max_length: int, truncation: Truncation, windows: int) -> None:
        self.max_length, self.truncation, self.windows = max_length, truncation, windows
        if truncation not in get_args(Truncation):
            expected = " or ".join(get_args(Truncation))
            raise UserError(f"truncation is {truncation!r}, expected {expected}")
        self._check_max_length(3, "one text ([CLS], a word piece, [SEP])")

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The arguments, but for the vocabulary, that make this tokenizer again."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) of all that decides which ids a text gets."""

    @abstractmethod
    def tokenize(self, texts: Any) -> tf.RaggedTensor:
        """Splits texts into pieces, without special ones and without cutting.

        Args:
            texts: [n] string, UTF-8.

        Returns:
            [n, (pieces)] int32 ids.
        """

    @abstractmethod
    def files(self) -> dict[str, str]:
        """Name to content of the files that hold the vocabulary."""

    @classmethod
    @abstractmethod
    def of_files(cls, folder: Path, settings: dict[str, Any]) -> Self:
        """Returns the tokenizer of a folder with `files`, and of what `settings` said.

        Raises:
            UserError: They are not those of such a tokenizer.
        """

    @abstractmethod
    def hugging_face_files(self, max_length: int) -> dict[str, str]:
        """Name to content of what `transformers` reads, of an encoder with so many positions."""

    @property
    def vocab_size(self) -> int:
        """How many pieces there are."""
        return len(self.vocab)

    def cut_by(self, **cutting: Any) -> Self:
        """The same tokenizer with another `max_length`, `truncation` and `windows`."""
        return type(self)(self.vocab, **self.settings | cutting)  # type: ignore[arg-type]

    def encode(self, text_a: Any, text_b: Any = None) -> Encoded:
        """Makes BERT's input: `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, cut to `max_length`.

        A longer one is several such inputs, where there may be `windows`.

        Args:
            text_a: [n] string, UTF-8.
            text_b: [n] string, or None for single texts.

        Raises:
            UserError: `max_length` has no room for a piece of each text of a pair.
        """
        texts = [self.tokenize(text_a)]
        if text_b is not None:
            self._check_max_length(5, _PAIR)
            texts.append(self.tokenize(text_b))
            tf.debugging.assert_equal(
                texts[0].nrows(), texts[1].nrows(), "text_a and text_b must be equally many"
            )
        specials = 1 + len(texts)
        kept = keep(texts, self.max_length - specials, self.truncation, self.windows)
        token_ids, type_ids = tf_text.combine_segments(kept.texts, self.cls_id, self.sep_id)
        whole_lengths = _total(texts) + specials
        return Encoded(token_ids, type_ids, kept.windows, whole_lengths, kept.is_cut)

    def encode_in_graph(self, texts: int) -> Encode:
        """`encode` as one graph: twenty times as fast for a few rows, and a second to make.

        Args:
            texts: 1 for single texts, 2 for pairs.
        """
        column = tf.TensorSpec([None], tf.string)
        return tf.function(self.encode, autograph=False).get_concrete_function(*[column] * texts)

    def encode_mixed(self, text_a: Any, text_b: Any, is_pair: Any) -> Encoded:
        """Encodes single texts and pairs in one batch, each row as `encode` would.

        Args:
            text_a: [n] string, UTF-8.
            text_b: [n] string; not looked at where a row is no pair.
            is_pair: [n] bool.
        """
        self._check_max_length(5, _PAIR)
        is_pair = tf.convert_to_tensor(is_pair)
        texts = [self.tokenize(text_a), self.tokenize(tf.where(is_pair, text_b, ""))]
        number = tf.cast(is_pair, tf.int64)
        whole_lengths = _total(texts) + 2 + number
        kept = keep(texts, self.max_length - 2 - number, self.truncation, self.windows)
        number = tf.repeat(number, kept.windows)
        one = tf.ones_like(number)
        parts = [
            _repeated(self.cls_id, one),
            kept.texts[0],
            _repeated(self.sep_id, one),
            kept.texts[1],
            _repeated(self.sep_id, number),
        ]
        types = [tf.zeros_like(part) for part in parts[:3]] + [tf.ones_like(p) for p in parts[3:]]
        token_ids, type_ids = tf.concat(parts, axis=1), tf.concat(types, axis=1)
        return Encoded(token_ids, type_ids, kept.windows, whole_lengths, kept.is_cut)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the vocabulary and `tokenizer.json` into a folder, each file whole or not at all."""
        folder = Path(folder)
        for name, content in self.files().items():
            write_atomically(folder / name, content)
        settings = json.dumps({"tokenizer": self.name} | self.settings, indent=2)
        write_atomically(folder / SETTINGS_FILE, settings + "\n")

    def _check_max_length(self, least: int, needed_by: str) -> None:
        if self.max_length < least:
            raise UserError(
                f"max_length {self.max_length} is too short for {needed_by}: at least {least}"
            )


def _total(texts: Sequence[tf.RaggedTensor]) -> tf.Tensor:
    """How many pieces the texts of each example have together, [n] int64."""
    return tf.add_n([text.row_lengths() for text in texts])


def _repeated(token_id: int, times: tf.Tensor) -> tf.RaggedTensor:
    """Returns a token so many times in each row, `times` [n] int64."""
    ids = tf.fill([tf.reduce_sum(times)], token_id)
    return tf.RaggedTensor.from_row_lengths(ids, times, validate=False)
