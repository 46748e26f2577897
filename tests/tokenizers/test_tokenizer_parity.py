"""Same ids as `transformers.BertTokenizerFast`: for hard, for random and for all shared sentences."""

import copy
import itertools
import json
import os
from pathlib import Path
from typing import NamedTuple

import pytest
import tensorflow as tf
from harness.runs import some
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from transformers import BertTokenizerFast

from mtdnn_tf.tokenizers.wordpiece import BertTokenizer

DATA_DIR = Path(os.environ.get("MTDNN_DATA_DIR", Path(__file__).parents[2] / "../shared/data"))
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

HARD = [
    "",
    " ",
    " \t\n\r \u00a0\u3000 ",
    "Crème brûlée, naïve façade; ÀÉÎÕÜ ñ ø Ł đ",
    "e\u0301 a\u0308\u0323 \u0301start q\u0307\u0323 \u1e69 \u212b\u2126\u212a",
    "ﬁne ﬂuﬀ ǅ ĳ ß ẞ ½ ² … ™ № ㎏ ｆｕｌｌ　ｗｉｄｔｈ",
    "ΟΔΟΣ Σ ΣΑΣ ΑΣ' ΑΣ. ὈΔΥΣΣΕΎΣ ς ᾳ ΐ",
    "İstanbul I ı Iğdır ISPARTA Í Ì J\u0307",
    "中文字符 mixed中with文latin 日本語カタカナがぎ ﾊﾟ 한국어 각 \U0002a6d6\U0002b81e\U0002f81a",
    "\u4dbf\u4dc0\u9fff\ua000\uf900\ufaff\ufb00 \U0002b920\U0002ceaf\U0002ceb0",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "\U0001f44d\U0001f3fd ❤\ufe0f 1\ufe0f\u20e3",
    "so\u00adft zero\u200bwidth no\u200cn jo\u200din \ufeffBOM in\ufeffside wo\u2060rd \u180e",
    "nul\x00bell\x07 esc\x1b[0m del\x7f nel\x85 vt\x0bff\x0c us\x1f \ufffd repl\ufffdaced \ue000",
    "line\u2028sep para\u2029sep \u1680ogham \u2009thin \u202fnarrow",
    "עברית \u202eright to left\u202c العَرَبِيَّة \u200fmark \u061c نص\u0640ـ",
    "हिन्दी में देवनागरी ไทย தமிழ் ខ្មែរ မြန်မာ",
    'don\'t "quote" ‘curly’ “double” — – ‐ - _ a_b $5 +1 <tag> `x` ^ ~ | a=b 3.14 1,000',
    "¡¿ § ¶ · « » ؟ ، 。、「」 ・ ！ ‰ ‱ ※ ⁂ € £ ° ± ×",
    "##ing # ## ###x [ SEP ] [sep] <s> [unused1]",
    "a" * 100,
    "a" * 101,
    "é" * 100 + " " + "é" * 101,
    "x" * 300 + "," + "y" * 100 + "-" + "z" * 101 + "!",
    "\u0378" * 101 + " 각" * 40 + " " + "각" * 34,
    "word " * 10_000,
    "\u0890\u08e2\U000110cd\u1734\u166d\U000111c9 a\u166db a\U000111c9b \ua7cb \ua7dc",
    "\U0001e922\U0001e944 \U0002b820\U0002b91f",
]

FILES = {
    "glue/CoLA/train.tsv": (3,),
    "glue/CoLA/dev.tsv": (3,),
    "glue/CoLA/test.tsv": (1,),
    "glue/SST-2/train.tsv": (0,),
    "glue/SST-2/dev.tsv": (0,),
    "glue/SST-2/test.tsv": (1,),
    "glue/MRPC/*.tsv": (3, 4),
    "glue/MRPC/msr_paraphrase_train.txt": (3, 4),
    "glue/STS-B/*.tsv": (7, 8),
    "glue/RTE/*.tsv": (1, 2),
    "glue/WNLI/*.tsv": (1, 2),
    "glue/AX/*.tsv": (1, 2),
    "glue/QNLI/*.tsv": (1, 2),
    "glue/MNLI/*.tsv": (8, 9),
    "scitail/*.tsv": (0, 1),
    "snli/*.jsonl": ("sentence1", "sentence2"),
}


class Both(NamedTuple):
    ours: BertTokenizer
    theirs: BertTokenizerFast

    def tokenize(self, texts):
        # The Rust object itself: the Python around it takes longer than the tokenizing.
        rust = self.theirs.backend_tokenizer
        rust.no_truncation()  # encode() leaves it on.
        ours = self.ours.tokenize(tf.constant(texts, tf.string)).to_list()
        theirs = []
        for part in batched(texts):
            encodings = rust.encode_batch_fast(part, add_special_tokens=False)
            theirs += [encoding.ids for encoding in encodings]
        return ours, theirs

    def encode(self, pairs, max_length):
        """Returns `[(token_ids, type_ids)]` of either."""
        tokenizer = copy.copy(self.ours)
        tokenizer.max_length = max_length
        ours, theirs = [], []
        for part in batched(pairs):
            texts = [list(side) for side in zip(*part, strict=True)]
            token_ids, type_ids, *_ = tokenizer.encode(*texts)
            ours += zip(token_ids.to_list(), type_ids.to_list(), strict=True)
            encoded = self.theirs(*texts, truncation="longest_first", max_length=max_length)
            theirs += zip(encoded["input_ids"], encoded["token_type_ids"], strict=True)
        return ours, theirs


def batched(items, size=10_000):
    """Parts of a list: the Rust tokenizer's results take a lot of memory."""
    return (items[start : start + size] for start in range(0, len(items), size))


def own_vocab() -> list[str]:
    """Letters, marks and symbols of many scripts, in both cases, and a few words."""
    blocks = [(0x21, 0x4FF), (0x5D0, 0x5EA), (0x620, 0x652), (0x900, 0x97F)]
    blocks += [(0xE01, 0xE4E), (0x1100, 0x11FF), (0x1E00, 0x1FFF), (0x2010, 0x2BFF)]
    blocks += [(0x3001, 0x30FF), (0x4E00, 0x4E50), (0xAC00, 0xAC40), (0xFB00, 0xFB06)]
    blocks += [(0xFE0F, 0xFE0F), (0x1F1E6, 0x1F1FF), (0x1F300, 0x1F6FF)]
    numbers = [number for first, last in blocks for number in range(first, last + 1)]
    letters = [chr(number) for number in numbers if not chr(number).isspace()]
    words = ["word", "Word", "the", "line", "soft", "istanbul", "İstanbul", "##ing", "##id", "##th"]
    pieces = [*SPECIAL, *words, *letters, *("##" + letter for letter in letters)]
    return list(dict.fromkeys(pieces))


def cased_forms(vocab: list[str]) -> list[str]:
    """An uncased vocabulary with capitalised and upper-case forms added."""
    forms = [form for piece in vocab for form in (piece.capitalize(), piece.upper())]
    return list(dict.fromkeys([*vocab, *forms, *own_vocab()]))


@pytest.fixture(
    scope="module",
    params=some(
        ["own-uncased", "own-cased", "minilm", "minilm-cased"], "own-uncased", "minilm-cased"
    ),
)
def both(request, tmp_path_factory) -> Both:
    folder = tmp_path_factory.mktemp("vocab")
    vocab, lower_case = own_vocab(), not request.param.endswith("-cased")
    if request.param.startswith("minilm"):
        minilm = request.getfixturevalue("minilm_dir")
        vocab = (minilm / "vocab.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
        if not lower_case:
            vocab = cased_forms(vocab)
    ours = BertTokenizer(vocab, lower_case=lower_case)
    ours.save(folder)
    (folder / "tokenizer.json").unlink()  # Ours, not theirs.
    theirs = BertTokenizerFast.from_pretrained(folder, do_lower_case=lower_case)
    assert theirs.backend_tokenizer.normalizer.lowercase == lower_case
    assert theirs.vocab_size == ours.vocab_size
    return Both(ours, theirs)


def assert_same(texts, ours, theirs):
    assert len(ours) == len(theirs) == len(texts)
    different = [t for t, a, b in zip(texts, ours, theirs, strict=True) if a != b]
    assert not different, f"{len(different)} differ: {different[:5]!a}"


def has_special(text: str) -> bool:
    # Theirs turns a special token written in a text into that token; ours means not to.
    return any(piece in text for piece in SPECIAL)


def test_hard_strings(both):
    assert_same(HARD, *both.tokenize(HARD))
    normalizer = both.theirs.backend_tokenizer.normalizer
    texts = HARD[:-2]  # The last two hold characters that ours makes unknown already here.
    ours = [text.decode() for text in both.ours.normalize(texts).numpy()]
    assert_same(texts, ours, [normalizer.normalize_str(text) for text in texts])


@pytest.mark.parametrize("max_length", [6, 31, 128])
def test_hard_pairs(both, max_length):
    # Theirs keeps what it cuts, side by side for pairs: gigabytes for two texts of 10,000 words.
    texts = [text[:300] for text in HARD]
    pairs = [(a, b) for a in texts for b in texts]
    assert_same(pairs, *both.encode(pairs, max_length))


def test_every_character(both):
    """Within a word, beside an accented capital, and alone; unassigned planes are sampled."""
    numbers = [*range(0xD800), *range(0xE000, 0x32400), *range(0xE0000, 0xE0200)]
    numbers += range(0x32400, 0x110000, 997)
    texts = [f"Éa{chr(c)}b {chr(c)} \u1e69{chr(c)}\u0323S" for c in numbers]
    assert_same(texts, *both.tokenize(texts))


SETTINGS = {
    "do_lower_case": (True, False),
    "strip_accents": (True, False, None),
    "tokenize_chinese_chars": (True, False),
}


@pytest.mark.parametrize("values", itertools.product(*SETTINGS.values()))
def test_every_setting_of_the_normalizer(values, tmp_path):
    theirs_too = dict(zip(SETTINGS, values, strict=True))
    vocab = [*own_vocab(), "schön", "schon", "中文", "##文"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    theirs = BertTokenizerFast.from_pretrained(tmp_path, **theirs_too)
    ours = BertTokenizer(vocab, lower_case=theirs_too.pop("do_lower_case"), **theirs_too)
    letters = [*range(0x250), *range(0x370, 0x600), *range(0x900, 0x980), *range(0x1E00, 0x2100)]
    letters += [*range(0x3000, 0x3100), *range(0x4DB0, 0x4E60), *range(0xABF0, 0xAC40)]
    texts = [*HARD, "Schön SCHON sch\u0308on", "中文 x中文y", "中" * 101, "Ș" * 101]
    texts += [f"Éa{chr(c)}b {chr(c)} \u1e69{chr(c)}\u0323S" for c in letters]
    assert_same(texts, *Both(ours, theirs).tokenize(texts))


TEXT = st.one_of(
    st.text(),
    st.lists(st.one_of(st.sampled_from([h for h in HARD if len(h) < 200]), st.text())).map("".join),
    st.lists(st.sampled_from(sorted(set("".join(HARD))))).map("".join),
)
PROPERTY = settings(
    deadline=None, max_examples=40, suppress_health_check=list(HealthCheck), derandomize=True
)


@PROPERTY
@given(texts=st.lists(TEXT, min_size=1, max_size=30))
def test_random_texts(both, texts):
    assume(not any(map(has_special, texts)))
    assert_same(texts, *both.tokenize(texts))


@PROPERTY
@given(
    pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=10), max_length=st.integers(5, 40)
)
def test_random_pairs(both, pairs, max_length):
    assume(not any(has_special(text) for pair in pairs for text in pair))
    assert_same(pairs, *both.encode(pairs, max_length))


def test_special_tokens_in_a_text_are_text(both):
    """The one difference that is meant: a text can't forge the structure of its input."""
    ours, theirs = both.tokenize(["[SEP]", "word[CLS]word"])
    assert not {both.ours.sep_id, both.ours.cls_id} & {i for ids in ours for i in ids}
    assert both.theirs.sep_token_id in theirs[0]
    assert both.theirs.cls_token_id in theirs[1]


@pytest.mark.parametrize("both", ["own-uncased"], indirect=True)
def test_every_combination_of_lengths(both):
    lengths = [(a, b) for a in range(24) for b in range(24)]
    pairs = [("word " * a, "word " * b) for a, b in lengths]
    for max_length in range(5, 24):
        assert_same(lengths, *both.encode(pairs, max_length))


def read_data() -> list[tuple[str, ...]]:
    rows = []
    for pattern, columns in FILES.items():
        paths = [path for path in sorted(DATA_DIR.glob(pattern)) if path.name != "dev_ids.tsv"]
        assert paths, pattern
        for path in paths:
            with open(path, encoding="utf-8", newline="\n") as lines:
                for line in lines:
                    row = json.loads(line) if path.suffix == ".jsonl" else line[:-1].split("\t")
                    rows.append(tuple(row[column] for column in columns))
    return rows


@pytest.fixture(scope="module")
def data() -> list[tuple[str, ...]]:
    if not DATA_DIR.is_dir():
        pytest.skip(f"no data: {DATA_DIR} (set MTDNN_DATA_DIR)")
    return read_data()


CASED = pytest.param("minilm-cased", marks=pytest.mark.long)


@pytest.mark.long
@pytest.mark.parametrize("both", ["minilm", CASED], indirect=True)
def test_every_sentence_of_the_data(both, data, record_property):
    sentences = [text for row in data for text in row]
    assert len(sentences) > 290_000
    texts = sorted(set(sentences))
    record_property("sentences", len(sentences))
    record_property("different sentences", len(texts))
    assert_same(texts, *both.tokenize(texts))


@pytest.mark.long
@pytest.mark.parametrize(
    ("both", "max_length", "step"),
    [("minilm", 128, 1), ("minilm", 32, 8), ("minilm-cased", 32, 8)],
    indirect=["both"],
)
def test_every_pair_of_the_data(both, data, max_length, step):
    pairs = [row for row in data if len(row) == 2]
    assert len(pairs) > 100_000
    assert_same(pairs[::step], *both.encode(pairs[::step], max_length))
