"""The tokenizer of an encoder's folder, as its files describe it.

`vocab.txt` or `tokenizer.json` (transformers 5 writes the latter alone) has the pieces. How a text is
cleaned stands in `tokenizer_config.json`, and in the normalizer of `tokenizer.json`. What
`mtdnn_tf.tokenizers.wordpiece` would not do the same is refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt

from mtdnn_tf.errors import UserError
from mtdnn_tf.pretrained.config_file import CONFIG_FILE, read_json
from mtdnn_tf.tokenizers.vocabulary import SPECIAL_PIECES, VOCAB_FILE, check_vocab, read_vocab
from mtdnn_tf.validation.fields import Model, validated

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
ADDED_TOKENS = "added_tokens.json"
SPECIAL_TOKENS = "special_tokens_map.json"
SENTENCE_CONFIG = "sentence_bert_config.json"  # Of sentence-transformers.
TOKENIZER_FILES = (
    *(VOCAB_FILE, TOKENIZER_FILE, TOKENIZER_CONFIG, ADDED_TOKENS, SPECIAL_TOKENS),
    SENTENCE_CONFIG,
)
SETTINGS = {"lower_case", "strip_accents", "tokenize_chinese_chars"}
# Written in a text, these are ordinary text here; others would have to be cut out of it whole.
_KNOWN_TOKENS = {*SPECIAL_PIECES, "[MASK]"}
# These do what tokenizer.json says; BERT's own classes take its pieces, and for the rest go by
# tokenizer_config.json and their own defaults.
_GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")
_DEFAULTS = "BertTokenizer's default"
# What `[CLS] a [SEP]` and `[CLS] a [SEP] b [SEP]` are as templates: (piece or text, type).
_SINGLE = [("[CLS]", 0), ("A", 0), ("[SEP]", 0)]
_PAIR = [*_SINGLE, ("B", 1), ("[SEP]", 1)]


def _content(token: object) -> object:
    """The text of a token, which may be described with how it is looked for."""
    return token.get("content") if isinstance(token, dict) else token


Token = Annotated[str, BeforeValidator(_content)]


class _TokenizerClass(BaseModel):
    """Whose class the tokenizer is: `config.json`, where `tokenizer_config.json` does not say it."""

    tokenizer_class: (
        Literal[
            "BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"
        ]
        | None
    ) = None


class _SpecialTokens(BaseModel):
    """`special_tokens_map.json`, whose keys may stand in `tokenizer_config.json` as well."""

    model_config = ConfigDict(extra="allow")  # Such as mask_token, or one with a name of its own.

    pad_token: Annotated[Literal["[PAD]"], BeforeValidator(_content)] = "[PAD]"
    unk_token: Annotated[Literal["[UNK]"], BeforeValidator(_content)] = "[UNK]"
    cls_token: Annotated[Literal["[CLS]"], BeforeValidator(_content)] = "[CLS]"
    sep_token: Annotated[Literal["[SEP]"], BeforeValidator(_content)] = "[SEP]"
    additional_special_tokens: list[Token] | None = None
    extra_special_tokens: list[Token] | dict[str, Token] | None = None

    @property
    def tokens(self) -> list[str]:
        """All of them."""
        extra = self.extra_special_tokens or []
        named = [_content(value) for key, value in self if key.endswith("_token")]
        return [
            *(token for token in named if isinstance(token, str)),
            *(self.additional_special_tokens or []),
            *(extra.values() if isinstance(extra, dict) else extra),
        ]


class _TokenizerConfig(_TokenizerClass, _SpecialTokens):
    """`tokenizer_config.json`, as far as it decides ids."""

    lower_case: StrictBool = Field(default=True, alias="do_lower_case")
    strip_accents: StrictBool | None = None
    tokenize_chinese_chars: StrictBool = True
    word_tokenizer_type: Literal["basic"] | None = None
    subword_tokenizer_type: Literal["wordpiece"] | None = None
    truncation_side: Literal["left", "right"] = "right"
    added_tokens_decoder: dict[str, Token] = {}


class _SentenceConfig(BaseModel):
    """`sentence_bert_config.json`, as far as it decides ids."""

    do_lower_case: StrictBool = False


class _WordPiece(BaseModel):
    type: Literal["WordPiece"] = "WordPiece"
    vocab: dict[str, StrictInt]
    unk_token: Literal["[UNK]"]
    continuing_subword_prefix: Literal["##"]
    max_input_chars_per_word: Literal[100]


class _BertNormalizer(BaseModel):
    type: Literal["BertNormalizer"]
    clean_text: Literal[True]
    lower_case: StrictBool = Field(alias="lowercase")
    strip_accents: StrictBool | None
    tokenize_chinese_chars: StrictBool = Field(alias="handle_chinese_chars")


class _BertPreTokenizer(BaseModel):
    type: Literal["BertPreTokenizer"]


class _AddedToken(BaseModel):
    id: StrictInt
    content: str


class _Tokenizer(BaseModel):
    """`tokenizer.json`, as far as it decides ids."""

    model: _WordPiece
    normalizer: _BertNormalizer
    pre_tokenizer: _BertPreTokenizer
    post_processor: dict[str, Any] | None = None
    added_tokens: list[_AddedToken] = []


@dataclass(frozen=True)
class TokenizerFiles:
    """What a folder's files say of its tokenizer.

    Attributes:
        vocab: The pieces; a piece's id is its position.
        vocab_file: The file that they are from.
        said: Those of `SETTINGS` that a file says, each with its value and the name of the file (or
            whose default it is); `strip_accents` None is as `lower_case`.
        notes: What two files say differently, and which of them is believed; and what is not done.
    """

    vocab: tuple[str, ...]
    vocab_file: Path
    said: Mapping[str, tuple[bool | None, str]]
    notes: tuple[str, ...]


def missing_vocab(folder: Path) -> list[str]:
    """Names of the vocabulary's files where a folder has none of them."""
    has_one = any((folder / name).is_file() for name in (VOCAB_FILE, TOKENIZER_FILE))
    return [] if has_one else [f"{VOCAB_FILE} (or {TOKENIZER_FILE})"]


def read_tokenizer_files(folder: Path) -> TokenizerFiles:
    """Reads the tokenizer's files of a folder.

    Raises:
        UserError: One can't be read, or describes another tokenizer than BERT's, or they have
            different vocabularies.
    """
    config = _read(folder / TOKENIZER_CONFIG, _TokenizerConfig) or _TokenizerConfig()
    named = config if config.tokenizer_class else _read(folder / CONFIG_FILE, _TokenizerClass)
    special = _read(folder / SPECIAL_TOKENS, _SpecialTokens) or _SpecialTokens()
    whole = _read(folder / TOKENIZER_FILE, _Tokenizer)
    _check_added(folder / TOKENIZER_CONFIG, [*config.added_tokens_decoder.values(), *config.tokens])
    _check_added(folder / SPECIAL_TOKENS, special.tokens)
    if (folder / ADDED_TOKENS).is_file():
        _check_added(folder / ADDED_TOKENS, read_json(folder / ADDED_TOKENS))
    said = {TOKENIZER_CONFIG: config.model_dump(include=SETTINGS, exclude_unset=True)}
    vocabularies = {}
    if whole is not None:
        is_generic = named is not None and named.tokenizer_class in _GENERIC
        vocab = vocabularies[TOKENIZER_FILE] = _vocab(folder / TOKENIZER_FILE, whole)
        _check_frame(folder / TOKENIZER_FILE, whole.post_processor, vocab, is_generic)
        of_whole = {TOKENIZER_FILE: whole.normalizer.model_dump(include=SETTINGS)}
        defaults = {_DEFAULTS: config.model_dump(include=SETTINGS - config.model_fields_set)}
        said = of_whole | said if is_generic else said | defaults | of_whole
    if whole is None or (folder / VOCAB_FILE).is_file():
        vocabularies[VOCAB_FILE] = read_vocab(folder / VOCAB_FILE)
    _check_same(folder, vocabularies)
    name, vocab = next(iter(vocabularies.items()))
    found, notes = _merged(said)
    if config.truncation_side == "left":
        notes.append(
            f"truncation_side is left in {TOKENIZER_CONFIG}; texts are cut as data.truncation says"
        )
    sentences = _read(folder / SENTENCE_CONFIG, _SentenceConfig)
    if sentences is not None and sentences.do_lower_case:
        notes.append(
            f"do_lower_case of {SENTENCE_CONFIG} is not taken; encoder.lower_case: true lower-cases"
        )
    return TokenizerFiles(vocab, folder / name, found, tuple(notes))


def _read(path: Path, model_class: type[Model]) -> Model | None:
    return validated(model_class, read_json(path), str(path)) if path.is_file() else None


def _check_added(path: Path, tokens: Iterable[str]) -> None:
    if others := [token for token in tokens if token not in _KNOWN_TOKENS]:
        names = ", ".join(map(repr, others[:5])) + (", ..." if len(others) > 5 else "")
        raise UserError(
            f"{path}: adds the tokens {names} to the vocabulary, to be cut out of a text before it is "
            "split; this is not supported"
        )


def _check_frame(
    path: Path, processor: Mapping[str, Any] | None, vocab: Sequence[str], is_generic: bool
) -> None:
    """Looks whether special tokens are put around texts as BERT does."""
    ids = expected = [vocab.index("[CLS]"), vocab.index("[SEP]")]
    match processor:
        case None:  # BERT's own classes put them there all the same.
            is_berts = not is_generic
        case {"type": "BertProcessing", "sep": ["[SEP]", sep], "cls": ["[CLS]", cls]}:
            is_berts, ids = True, [cls, sep]
        case {
            "type": "TemplateProcessing",
            "single": list(single),
            "pair": list(pair),
            "special_tokens": {"[CLS]": {"ids": [cls]}, "[SEP]": {"ids": [sep]}},
        }:
            is_berts = _template(single) == _SINGLE and _template(pair) == _PAIR
            ids = [cls, sep]
        case _:
            is_berts = False
    if not is_berts:
        kind = processor and processor.get("type")
        raise UserError(
            f"{path}: post_processor ({kind}): expected [CLS] a [SEP] and [CLS] a [SEP] b [SEP], of "
            "type 1 from b on"
        )
    if ids != expected:
        raise UserError(
            f"{path}: post_processor: [CLS] and [SEP] are {ids[0]!r} and {ids[1]!r}; expected "
            f"{expected[0]} and {expected[1]}, as in the vocabulary"
        )


def _template(items: Iterable[Any]) -> list[tuple[Any, Any]]:
    """The items of a template, such as `{"SpecialToken": {"id": "[CLS]", "type_id": 0}}`."""
    parts = [next(iter(item.values()), None) if isinstance(item, dict) else None for item in items]
    return [(p.get("id"), p.get("type_id")) if isinstance(p, dict) else (p, p) for p in parts]


def _vocab(path: Path, whole: _Tokenizer) -> tuple[str, ...]:
    _check_added(path, [token.content for token in whole.added_tokens])
    ids = {token.content: token.id for token in whole.added_tokens} | whole.model.vocab
    pieces = {number: piece for piece, number in ids.items()}
    if len(pieces) < len(ids) or set(pieces) != set(range(len(pieces))):
        raise UserError(f"{path}: the ids of its {len(ids)} pieces are not 0 to {len(ids) - 1}")
    vocab = tuple(pieces[number] for number in range(len(pieces)))
    try:
        check_vocab(vocab)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return vocab


def _check_same(folder: Path, vocabularies: Mapping[str, tuple[str, ...]]) -> None:
    first, *others = vocabularies.values()
    for other in others:
        if first != other:
            names = " and ".join(vocabularies)
            pairs = enumerate(zip(first, other, strict=False))
            different = next(((n, *pair) for n, pair in pairs if pair[0] != pair[1]), None)
            told = f"{len(first)} pieces in the one, {len(other)} in the other"
            if different is not None:
                told = "piece {} is {!r} in the one, {!r} in the other".format(*different)
            raise UserError(f"{folder}: {names} differ: {told}; remove the one that is wrong")


def _merged(
    said: Mapping[str, Mapping[str, bool | None]],
) -> tuple[dict[str, tuple[bool | None, str]], list[str]]:
    """What files say, those that come first believed before others; and where others differ."""
    found: dict[str, tuple[bool | None, str]] = {}
    notes = []
    for file, values in said.items():
        for name, value in values.items():
            believed, source = found.setdefault(name, (value, file))
            if believed != value:
                notes.append(
                    f"{name} is {believed} in {source}, which is believed, {value} in {file}"
                )
    return found, notes
