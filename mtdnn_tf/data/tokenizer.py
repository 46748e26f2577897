"""BERT's WordPiece tokenizer in the TensorFlow graph; see docs/tokenizer.md."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import tensorflow as tf
import tensorflow_text as tf_text

from mtdnn_tf.data.normalizer import UNKNOWN_LETTER, BertNormalizer, replace_where
from mtdnn_tf.errors import UserError
from mtdnn_tf.files import write_atomically

VOCAB_FILE = "vocab.txt"
SETTINGS_FILE = "tokenizer.json"

# Part of the fingerprint: raise it when a change here can give a text other ids than before.
_ALGORITHM = 1
_SPECIAL_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_MAX_WORD_CHARACTERS = 100
_MAX_WORD_BYTES = 4 * _MAX_WORD_CHARACTERS

# Columns of texts, [n] string each, to token and type ids (see `BertTokenizer.encode`).
Encode = Callable[..., tuple[tf.RaggedTensor, tf.RaggedTensor]]

# RE2.
_PUNCTUATION = r"([\p{P}!-/:-@\[-`{-~])"
_LONG_RUN = rf"(?s).*[^ ]{{{_MAX_WORD_CHARACTERS + 1}}}.*"


class BertTokenizer:
    """Word pieces as `transformers.BertTokenizerFast` gives them, by TensorFlow ops alone.

    Usable inside `tf.function`, so in `tf.data` and in a SavedModel. A special token written in a
    text (`[SEP]`) is ordinary text: a text can't forge the structure of its input.

    Example:
        >>> tokenizer = BertTokenizer.from_file("vocab.txt", max_length=64)
        >>> token_ids, type_ids = tokenizer.encode(["A man sleeps."], ["Nobody is awake."])

    Args:
        vocab: The pieces; a piece's id is its position. Holds [PAD], [UNK], [CLS] and [SEP].
        lower_case: Whether texts are lower-cased and lose their accents (an uncased vocabulary).
        max_length: Most tokens of an encoded example, [CLS] and [SEP] included; at least 3, and at
            least 5 to encode pairs.

    Raises:
        UserError: The vocabulary or `max_length` can't be used.
    """

    def __init__(
        self, vocab: Sequence[str], *, lower_case: bool = True, max_length: int = 128
    ) -> None:
        self.vocab = tuple(vocab)
        self.lower_case = lower_case
        self.max_length = max_length
        _check_vocab(self.vocab)
        self._check_max_length(3, "one text ([CLS], a word piece, [SEP])")
        self.vocab_size = len(self.vocab)
        self.pad_id, self.unk_id, self.cls_id, self.sep_id = map(self.vocab.index, _SPECIAL_PIECES)
        self._normalizer = BertNormalizer(set().union(*self.vocab), lower_case)
        try:
            self._word_pieces = tf_text.FastWordpieceTokenizer(
                list(self.vocab),
                max_bytes_per_word=_MAX_WORD_BYTES,
                token_out_type=tf.int32,
                support_detokenization=False,
            )
        except RuntimeError as error:
            raise UserError(f"the vocabulary can't be used: {error}") from None

    @classmethod
    def from_file(
        cls, vocab_file: str | os.PathLike[str], *, lower_case: bool = True, max_length: int = 128
    ) -> Self:
        """Returns the tokenizer of a `vocab.txt`: UTF-8, one piece a line."""
        path = Path(vocab_file)
        try:
            # Not splitlines(): vocabularies hold pieces such as U+2028.
            lines = path.read_text(encoding="utf-8").split("\n")
        except OSError as error:
            raise UserError(f"{path}: can't read the vocabulary ({error.strerror})") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 at byte {error.start}") from None
        if lines[-1] == "":
            lines.pop()
        try:
            return cls(lines, lower_case=lower_case, max_length=max_length)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) of all that decides which ids a text gets."""
        parts = [_ALGORITHM, self.vocab, self.lower_case, self.max_length]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def normalize(self, texts: Any) -> tf.Tensor:
        """Cleans texts: characters removed or unified, and lower-cased if the vocabulary is uncased.

        Args:
            texts: [n] string, UTF-8; bytes that are not are dropped.

        Returns:
            [n] string.
        """
        return self._normalizer(tf.convert_to_tensor(texts, tf.string))

    def tokenize(self, texts: Any) -> tf.RaggedTensor:
        """Splits texts into word pieces, without special tokens and without cutting.

        Args:
            texts: [n] string, UTF-8.

        Returns:
            [n, (pieces)] int32 ids.
        """
        words = self.normalize(texts)
        # The op limits a word's bytes; BERT limits its characters.
        long = tf.strings.regex_full_match(words, _LONG_RUN)
        words = replace_where(long, words, lambda: _hide_long_words(words[long]))
        return self._word_pieces.tokenize(words)

    def encode(self, text_a: Any, text_b: Any = None) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Makes BERT's input: `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, cut to `max_length`.

        Args:
            text_a: [n] string, UTF-8.
            text_b: [n] string, or None for single texts.

        Returns:
            `(token_ids, type_ids)`, both [n, (tokens)] int32; type 0 up to the first [SEP], then 1.

        Raises:
            UserError: `max_length` has no room for a piece of each text of a pair.
        """
        if text_b is None:
            pieces = self.tokenize(text_a)
            segments = [_cut(pieces, tf.minimum(pieces.row_lengths(), self.max_length - 2))]
        else:
            self._check_max_length(5, "a pair ([CLS], a word piece, [SEP], a word piece, [SEP])")
            pieces_a, pieces_b = self.tokenize(text_a), self.tokenize(text_b)
            tf.debugging.assert_equal(
                pieces_a.nrows(), pieces_b.nrows(), "text_a and text_b must be equally many"
            )
            kept_a, kept_b = longest_first(
                pieces_a.row_lengths(), pieces_b.row_lengths(), self.max_length - 3
            )
            segments = [_cut(pieces_a, kept_a), _cut(pieces_b, kept_b)]
        return tf_text.combine_segments(segments, self.cls_id, self.sep_id)

    def encode_in_graph(self, texts: int) -> Encode:
        """`encode` as one graph: twenty times as fast for a few rows, and a second to make.

        Args:
            texts: 1 for single texts, 2 for pairs.
        """
        column = tf.TensorSpec([None], tf.string)
        return tf.function(self.encode, autograph=False).get_concrete_function(*[column] * texts)

    def encode_mixed(
        self, text_a: Any, text_b: Any, is_pair: Any
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Encodes single texts and pairs in one batch, each row as `encode` would.

        Args:
            text_a: [n] string, UTF-8.
            text_b: [n] string; not looked at where a row is no pair.
            is_pair: [n] bool.

        Returns:
            As `encode`.
        """
        self._check_max_length(5, "a pair ([CLS], a word piece, [SEP], a word piece, [SEP])")
        is_pair = tf.convert_to_tensor(is_pair)
        pieces_a = self.tokenize(text_a)
        pieces_b = self.tokenize(tf.where(is_pair, text_b, ""))
        number = tf.cast(is_pair, tf.int64)
        kept_a, kept_b = longest_first(
            pieces_a.row_lengths(), pieces_b.row_lengths(), self.max_length - 2 - number
        )
        one = tf.ones_like(number)
        parts = [
            _repeated(self.cls_id, one),
            _cut(pieces_a, kept_a),
            _repeated(self.sep_id, one),
            _cut(pieces_b, kept_b),
            _repeated(self.sep_id, number),
        ]
        types = [tf.zeros_like(part) for part in parts[:3]] + [tf.ones_like(p) for p in parts[3:]]
        return tf.concat(parts, axis=1), tf.concat(types, axis=1)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes `vocab.txt` and `tokenizer.json` into a folder, each of them whole or not at all."""
        folder = Path(folder)
        settings = {"lower_case": self.lower_case, "max_length": self.max_length}
        write_atomically(folder / VOCAB_FILE, "".join(piece + "\n" for piece in self.vocab))
        write_atomically(folder / SETTINGS_FILE, json.dumps(settings, indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Returns the tokenizer that `save` wrote into a folder."""
        path = Path(folder) / SETTINGS_FILE
        expected = 'expected {"lower_case": true or false, "max_length": a number}'
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: can't read the settings ({error.strerror})") from None
        except ValueError as error:
            raise UserError(f"{path}: not JSON ({error}); {expected}") from None
        kinds = {"lower_case": bool, "max_length": int}
        if not isinstance(settings, dict) or {k: type(v) for k, v in settings.items()} != kinds:
            raise UserError(f"{path}: {expected}, not {settings}")
        return cls.from_file(path.parent / VOCAB_FILE, **settings)

    def _check_max_length(self, least: int, needed_by: str) -> None:
        if self.max_length < least:
            raise UserError(
                f"max_length {self.max_length} is too short for {needed_by}: at least {least}"
            )


def longest_first(
    length_a: tf.Tensor, length_b: tf.Tensor, budget: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Shares a budget of tokens as `truncation="longest_first"` of `transformers` does.

    Only the longer text is cut, as long as it stays the longer one; beyond that each keeps a half,
    and an odd token goes to the longer text, to the second where both are equal.

    Args:
        length_a: [n] integers.
        length_b: [n] integers.
        budget: What the two may have together; one number, or [n].

    Returns:
        The kept lengths, [n] each.
    """
    odd_token = tf.cast(length_a > length_b, length_a.dtype) * (budget % 2)
    half_a = budget // 2 + odd_token
    kept_a = tf.minimum(length_a, tf.maximum(half_a, budget - length_b))
    return kept_a, tf.minimum(length_b, budget - kept_a)


def _check_vocab(vocab: tuple[str, ...]) -> None:
    missing = [piece for piece in _SPECIAL_PIECES if piece not in vocab]
    if missing:
        raise UserError(f"the vocabulary lacks {', '.join(missing)}")
    first: dict[str, int] = {}
    for position, piece in enumerate(vocab):
        if not piece:
            raise UserError(f"the vocabulary's piece {position} is empty")
        if first.setdefault(piece, position) != position:
            raise UserError(
                f"the vocabulary has {piece!r} twice, as pieces {first[piece]} and {position}"
            )


def _hide_long_words(texts: tf.Tensor) -> tf.Tensor:
    """Makes words that are too long for WordPiece unknown."""
    words = tf.strings.split(tf.strings.regex_replace(texts, _PUNCTUATION, r" \1 "))
    long = tf.strings.length(words.flat_values, "UTF8_CHAR") > _MAX_WORD_CHARACTERS
    words = words.with_flat_values(tf.where(long, UNKNOWN_LETTER, words.flat_values))
    return tf.strings.reduce_join(words, axis=-1, separator=" ")


def _cut(pieces: tf.RaggedTensor, kept: tf.Tensor) -> tf.RaggedTensor:
    """Returns the first `kept` [n] pieces of each row."""
    starts = pieces.row_starts()
    kept_pieces = tf.ragged.range(starts, starts + kept)
    return kept_pieces.with_flat_values(tf.gather(pieces.flat_values, kept_pieces.flat_values))


def _repeated(token_id: int, times: tf.Tensor) -> tf.RaggedTensor:
    """Returns a token so many times in each row, `times` [n] int64."""
    ids = tf.fill([tf.reduce_sum(times)], token_id)
    return tf.RaggedTensor.from_row_lengths(ids, times, validate=False)
