"""BERT's WordPiece tokenizer in the TensorFlow graph; see docs/tokenizer.md."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, get_args

import tensorflow as tf
import tensorflow_text as tf_text

from mtdnn_tf.errors import UserError
from mtdnn_tf.files import write_atomically
from mtdnn_tf.tokenizers import Truncation
from mtdnn_tf.tokenizers.cutting import keep
from mtdnn_tf.tokenizers.normalizer import UNKNOWN_LETTER, BertNormalizer, replace_where
from mtdnn_tf.tokenizers.vocabulary import SPECIAL_PIECES, VOCAB_FILE, check_vocab, read_vocab

SETTINGS_FILE = "tokenizer.json"

# Part of the fingerprint: raise it when a change here can give a text other ids than before.
_ALGORITHM = 1
_MAX_WORD_CHARACTERS = 100
_MAX_WORD_BYTES = 4 * _MAX_WORD_CHARACTERS

_PAIR = "a pair ([CLS], a word piece, [SEP], a word piece, [SEP])"

# RE2.
_PUNCTUATION = r"([\p{P}!-/:-@\[-`{-~])"
_LONG_RUN = rf"(?s).*[^ ]{{{_MAX_WORD_CHARACTERS + 1}}}.*"


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


# Columns of texts, [n] string each, to what `BertTokenizer.encode` makes of them.
Encode = Callable[..., Encoded]


class BertTokenizer:
    """Word pieces as `transformers.BertTokenizerFast` gives them, by TensorFlow ops alone.

    Usable inside `tf.function`, so in `tf.data` and in a SavedModel. A special token written in a
    text (`[SEP]`) is ordinary text: a text can't forge the structure of its input.

    Example:
        >>> tokenizer = BertTokenizer.from_file("vocab.txt", max_length=64)
        >>> encoded = tokenizer.encode(["A man sleeps."], ["Nobody is awake."])
        >>> encoded.token_ids, encoded.type_ids

    Args:
        vocab: The pieces; a piece's id is its position. Holds [PAD], [UNK], [CLS] and [SEP].
        lower_case: Whether texts are lower-cased (an uncased vocabulary).
        strip_accents: Whether letters lose their accents; None is as `lower_case`.
        tokenize_chinese_chars: Whether every CJK ideograph is a word of its own.
        max_length: Most tokens of an encoded example, [CLS] and [SEP] included; at least 3, and at
            least 5 to encode pairs.
        truncation: What is kept of a longer one, see `keep`.
        windows: Most windows of `max_length` that a longer one is read as.

    Raises:
        UserError: The vocabulary or `max_length` can't be used.
    """

    def __init__(
        self,
        vocab: Sequence[str],
        *,
        lower_case: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        max_length: int = 128,
        truncation: Truncation = "longest_first",
        windows: int = 1,
    ) -> None:
        self.vocab = tuple(vocab)
        self.lower_case = lower_case
        self.strip_accents = lower_case if strip_accents is None else strip_accents
        self.tokenize_chinese_chars = tokenize_chinese_chars
        self.max_length = max_length
        self.truncation = truncation
        self.windows = windows
        check_vocab(self.vocab)
        if truncation not in get_args(Truncation):
            expected = " or ".join(get_args(Truncation))
            raise UserError(f"truncation is {truncation!r}, expected {expected}")
        self._check_max_length(3, "one text ([CLS], a word piece, [SEP])")
        self.vocab_size = len(self.vocab)
        self.pad_id, self.unk_id, self.cls_id, self.sep_id = map(self.vocab.index, SPECIAL_PIECES)
        self._normalizer = BertNormalizer(
            set().union(*self.vocab), lower_case, self.strip_accents, tokenize_chinese_chars
        )
        try:
            self._word_pieces = tf_text.FastWordpieceTokenizer(
                list(self.vocab),
                max_bytes_per_word=_MAX_WORD_BYTES,
                token_out_type=tf.int32,
                support_detokenization=False,
                no_pretokenization=not tokenize_chinese_chars,
            )
        except RuntimeError as error:
            raise UserError(f"the vocabulary can't be used: {error}") from None

    @classmethod
    def from_file(cls, vocab_file: str | os.PathLike[str], **settings: Any) -> Self:
        """Returns the tokenizer of a `vocab.txt`; `settings` are those of the constructor."""
        path = Path(vocab_file)
        vocab = read_vocab(path)
        try:
            return cls(vocab, **settings)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments, but for the vocabulary, that make this tokenizer again."""
        return {
            "lower_case": self.lower_case,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.tokenize_chinese_chars,
            "max_length": self.max_length,
            "truncation": self.truncation,
            "windows": self.windows,
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) of all that decides which ids a text gets."""
        parts = [_ALGORITHM, self.vocab, self.lower_case, self.max_length]
        others = [self.strip_accents, self.tokenize_chinese_chars]
        if others != [self.lower_case, True]:  # What BERT does has the fingerprint it always had.
            parts += others
        if self.truncation != "longest_first":
            parts.append(self.truncation)
        if self.windows > 1:
            parts.append(self.windows)
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
        if not self.tokenize_chinese_chars:  # The op's own way to words would cut out ideographs.
            return self._word_pieces.tokenize(_words(words)).merge_dims(1, 2)
        # The op limits a word's bytes; BERT limits its characters.
        long = tf.strings.regex_full_match(words, _LONG_RUN)
        words = replace_where(long, words, lambda: _hide_long_words(words[long]))
        return self._word_pieces.tokenize(words)

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
        """Writes `vocab.txt` and `tokenizer.json` into a folder, each of them whole or not at all."""
        folder = Path(folder)
        write_atomically(folder / VOCAB_FILE, "".join(piece + "\n" for piece in self.vocab))
        write_atomically(folder / SETTINGS_FILE, json.dumps(self.settings, indent=2) + "\n")

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
        # Older runs lack these.
        kinds |= {"strip_accents": bool, "tokenize_chinese_chars": bool}
        kinds |= {"truncation": str, "windows": int}
        if (
            not isinstance(settings, dict)
            or not {"lower_case", "max_length"} <= settings.keys()
            or any(type(value) is not kinds.get(key) for key, value in settings.items())
        ):
            raise UserError(f"{path}: {expected}, not {settings}")
        return cls.from_file(path.parent / VOCAB_FILE, **settings)

    def _check_max_length(self, least: int, needed_by: str) -> None:
        if self.max_length < least:
            raise UserError(
                f"max_length {self.max_length} is too short for {needed_by}: at least {least}"
            )


def _words(texts: tf.Tensor) -> tf.RaggedTensor:
    """Splits [n] normalised texts into words; those too long for WordPiece become unknown."""
    words = tf.strings.split(tf.strings.regex_replace(texts, _PUNCTUATION, r" \1 "))
    long = tf.strings.length(words.flat_values, "UTF8_CHAR") > _MAX_WORD_CHARACTERS
    return words.with_flat_values(tf.where(long, UNKNOWN_LETTER, words.flat_values))


def _hide_long_words(texts: tf.Tensor) -> tf.Tensor:
    """Makes words that are too long for WordPiece unknown."""
    return tf.strings.reduce_join(_words(texts), axis=-1, separator=" ")


def _total(texts: Sequence[tf.RaggedTensor]) -> tf.Tensor:
    """How many pieces the texts of each example have together, [n] int64."""
    return tf.add_n([text.row_lengths() for text in texts])


def _repeated(token_id: int, times: tf.Tensor) -> tf.RaggedTensor:
    """Returns a token so many times in each row, `times` [n] int64."""
    ids = tf.fill([tf.reduce_sum(times)], token_id)
    return tf.RaggedTensor.from_row_lengths(ids, times, validate=False)
