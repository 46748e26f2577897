"""BERT's WordPiece tokenizer in the TensorFlow graph; see docs/tokenizer.md."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import tensorflow as tf
import tensorflow_text as tf_text

from mtdnn_tf.errors import UserError
from mtdnn_tf.tokenizers import Truncation
from mtdnn_tf.tokenizers.normalizer import UNKNOWN_LETTER, BertNormalizer, replace_where
from mtdnn_tf.tokenizers.tokenizer import SETTINGS_FILE, Tokenizer
from mtdnn_tf.tokenizers.vocabulary import SPECIAL_PIECES, VOCAB_FILE, check_vocab, read_vocab

# Part of the fingerprint: raise it when a change here can give a text other ids than before.
_ALGORITHM = 1
_MAX_WORD_CHARACTERS = 100
_MAX_WORD_BYTES = 4 * _MAX_WORD_CHARACTERS

# RE2.
_PUNCTUATION = r"([\p{P}!-/:-@\[-`{-~])"
_LONG_RUN = rf"(?s).*[^ ]{{{_MAX_WORD_CHARACTERS + 1}}}.*"


class BertTokenizer(Tokenizer):
    """Word pieces as `transformers.BertTokenizerFast` gives them, by TensorFlow ops alone.

    A special token written in a text (`[SEP]`) is ordinary text: a text can't forge the structure of
    its input.

    Example:
        >>> tokenizer = BertTokenizer.from_file("vocab.txt", max_length=64)
        >>> encoded = tokenizer.encode(["A man sleeps."], ["Nobody is awake."])
        >>> encoded.token_ids, encoded.type_ids

    Args:
        vocab: The pieces; a piece's id is its position. Holds [PAD], [UNK], [CLS] and [SEP].
        lower_case: Whether texts are lower-cased (an uncased vocabulary).
        strip_accents: Whether letters lose their accents; None is as `lower_case`.
        tokenize_chinese_chars: Whether every CJK ideograph is a word of its own.
        max_length: See `Tokenizer`, as the next two.
        truncation: What is kept of a longer one.
        windows: Most windows of a longer one.

    Raises:
        UserError: The vocabulary or `max_length` can't be used.
    """

    name = "wordpiece"

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
        check_vocab(self.vocab)
        super().__init__(max_length, truncation, windows)
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
        """See `Tokenizer`."""
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
        """See `Tokenizer`."""
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
        """See `Tokenizer`."""
        words = self.normalize(texts)
        if not self.tokenize_chinese_chars:  # The op's own way to words would cut out ideographs.
            return self._word_pieces.tokenize(_words(words)).merge_dims(1, 2)
        # The op limits a word's bytes; BERT limits its characters.
        long = tf.strings.regex_full_match(words, _LONG_RUN)
        words = replace_where(long, words, lambda: _hide_long_words(words[long]))
        return self._word_pieces.tokenize(words)

    def files(self) -> dict[str, str]:
        """See `Tokenizer`."""
        return {VOCAB_FILE: "".join(piece + "\n" for piece in self.vocab)}

    @classmethod
    def of_files(cls, folder: Path, settings: dict[str, Any]) -> Self:
        """See `Tokenizer`."""
        kinds = {"lower_case": bool, "max_length": int}
        # Older runs lack these.
        kinds |= {"strip_accents": bool, "tokenize_chinese_chars": bool}
        kinds |= {"truncation": str, "windows": int}
        if not {"lower_case", "max_length"} <= settings.keys() or any(
            type(value) is not kinds.get(key) for key, value in settings.items()
        ):
            raise UserError(
                f'{folder / SETTINGS_FILE}: expected {{"lower_case": true or false, '
                f'"max_length": a number}}, not {settings}'
            )
        return cls.from_file(folder / VOCAB_FILE, **settings)

    def hugging_face_files(self, max_length: int) -> dict[str, str]:
        """See `Tokenizer`."""
        config = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.lower_case,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.tokenize_chinese_chars,
            "model_max_length": max_length,
        }
        return self.files() | {"tokenizer_config.json": json.dumps(config, indent=2) + "\n"}


def _words(texts: tf.Tensor) -> tf.RaggedTensor:
    """Splits [n] normalised texts into words; those too long for WordPiece become unknown."""
    words = tf.strings.split(tf.strings.regex_replace(texts, _PUNCTUATION, r" \1 "))
    long = tf.strings.length(words.flat_values, "UTF8_CHAR") > _MAX_WORD_CHARACTERS
    return words.with_flat_values(tf.where(long, UNKNOWN_LETTER, words.flat_values))


def _hide_long_words(texts: tf.Tensor) -> tf.Tensor:
    """Makes words that are too long for WordPiece unknown."""
    return tf.strings.reduce_join(_words(texts), axis=-1, separator=" ")
