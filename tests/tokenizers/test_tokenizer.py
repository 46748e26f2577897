"""The tokenizer by hand-worked examples; parity with `transformers` is in test_tokenizer_parity.py."""

import hashlib
import json

import pytest
import tensorflow as tf
from harness.runs import run
from hypothesis import given, settings
from hypothesis import strategies as st

from mtdnn_tf.errors import UserError
from mtdnn_tf.tokenizers.cutting import longest_first
from mtdnn_tf.tokenizers.saved import load_tokenizer
from mtdnn_tf.tokenizers.wordpiece import BertTokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
VOCAB = [*SPECIAL, "the", "cat", "##s", "un", "##related", ",", "[", "]", "sep", "İ", "i", "中"]
PAD, UNK, CLS, SEP, THE, CAT, S, UN, RELATED, COMMA, LEFT, RIGHT, SEP_WORD, _, LETTER_I, CJK = (
    range(16)
)


@pytest.fixture(scope="module")
def tokenizer():
    return BertTokenizer(VOCAB, max_length=8)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("The cats", [THE, CAT, S]),
        ("  unrelated,\tCÁT\n", [UN, RELATED, COMMA, CAT]),
        ("dog cat", [UNK, CAT]),
        ("catdog", [UNK]),
        ("", []),
        (" \t\n", []),
        ("c\u00ada\u200bt\x00", [CAT]),
        ("cat中cat", [CAT, CJK, CAT]),
        ("İ I", [LETTER_I, LETTER_I]),
        ("[SEP]", [LEFT, SEP_WORD, RIGHT]),
        ("[PAD]", [LEFT, UNK, RIGHT]),
        (b"c\xffat \xe4\xb8", [CAT]),
        ("cat " + "s" * 101, [CAT, UNK]),
        ("the " * 10_000, [THE] * 10_000),
    ],
)
def test_tokenizes(tokenizer, text, pieces):
    assert tokenizer.tokenize([text]).to_list() == [pieces]


def test_cased_keeps_case_and_accents():
    tokenizer = BertTokenizer([*SPECIAL, "Cat", "cat", "É", "[", "SEP", "]"], lower_case=False)
    assert tokenizer.tokenize(["Cat cat É é CAT", "[SEP]"]).to_list() == [
        [4, 5, 6, 1, 1],
        [7, 8, 9],
    ]
    assert tokenizer.normalize(["Ét\u00ade"]).numpy() == ["Éte".encode()]


@pytest.mark.parametrize(
    ("settings", "ids"),
    [
        ({}, [[4], [4], [6, 6]]),
        ({"strip_accents": False}, [[5], [4], [6, 6]]),
        ({"lower_case": False, "strip_accents": True}, [[1], [4], [6, 6]]),
        ({"tokenize_chinese_chars": False}, [[4], [4], [6, 7]]),
    ],
)
def test_accents_and_ideographs_are_kept_where_the_settings_say(settings, ids):
    vocab = [*SPECIAL, "schon", "schön", "中", "##中"]
    assert BertTokenizer(vocab, **settings).tokenize(["SCHÖN", "schon", "中中"]).to_list() == ids


def test_disputed_characters_of_the_vocabulary_are_kept():
    # Of these, `transformers` and TensorFlow disagree on the kind; see docs/tokenizer.md.
    texts = ["a\u166d\U000111c9", "\ua82c"]
    plain = BertTokenizer([*SPECIAL, "a"], lower_case=False)
    assert plain.tokenize(texts).to_list() == [[4, 1, 1], [1]]
    own = BertTokenizer([*SPECIAL, "a\u166d\U000111c9", "\ua82c"], lower_case=False)
    assert own.tokenize(texts).to_list() == [[4], [5]]


@settings(deadline=None, derandomize=True)
@given(texts=st.lists(st.binary(), min_size=1))
def test_bytes_that_are_not_utf8_are_dropped(tokenizer, texts):
    valid = [text.decode("utf-8", "ignore") for text in texts]
    assert tokenizer.tokenize(texts).to_list() == tokenizer.tokenize(valid).to_list()


def test_normalizes(tokenizer):
    normalized = tokenizer.normalize(["ÀB\tc\u3000中", "ΟΔΟΣ", "½ ß …", "Plain Text"]).numpy()
    assert [text.decode() for text in normalized] == [
        "ab c  中 ",
        "οδοσ",
        "½ ß …",
        "plain text",
    ]


def test_sizes_and_ids(tokenizer):
    ids = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id)
    assert ids == (PAD, UNK, CLS, SEP)
    assert tokenizer.vocab_size == len(VOCAB)
    assert tokenizer.vocab == tuple(VOCAB)


def test_encodes_one_text(tokenizer):
    token_ids, type_ids, *_ = tokenizer.encode(["the cats", "", "cat " * 20])
    assert token_ids.dtype == type_ids.dtype == tf.int32
    assert token_ids.to_list() == [[CLS, THE, CAT, S, SEP], [CLS, SEP], [CLS, *[CAT] * 6, SEP]]
    assert type_ids.to_list() == [[0] * 5, [0] * 2, [0] * 8]


def test_encodes_pairs(tokenizer):
    token_ids, type_ids, *_ = tokenizer.encode(
        ["the cats", "the", "the " * 9, ""], ["cat", "cat " * 9, "cat " * 9, ""]
    )
    assert token_ids.to_list() == [
        [CLS, THE, CAT, S, SEP, CAT, SEP],
        [CLS, THE, SEP, CAT, CAT, CAT, CAT, SEP],
        [CLS, THE, THE, SEP, CAT, CAT, CAT, SEP],
        [CLS, SEP, SEP],
    ]
    assert type_ids.to_list() == [
        [0] * 5 + [1] * 2,
        [0] * 3 + [1] * 5,
        [0] * 4 + [1] * 4,
        [0, 0, 1],
    ]


def test_encodes_nothing(tokenizer):
    for encoded in (tokenizer.encode([]), tokenizer.encode([], [])):
        assert [part.to_list() for part in encoded[:2]] == [[], []]


@pytest.mark.parametrize(
    ("lengths", "budget", "kept"),
    [
        ((2, 3), 5, (2, 3)),
        ((9, 1), 5, (4, 1)),
        ((1, 9), 5, (1, 4)),
        ((9, 8), 5, (3, 2)),
        ((8, 9), 5, (2, 3)),
        ((9, 9), 5, (2, 3)),
        ((3, 3), 5, (2, 3)),
        ((9, 9), 4, (2, 2)),
        ((9, 0), 4, (4, 0)),
        ((0, 9), 4, (0, 4)),
    ],
)
def test_cuts_the_longer_text_first(lengths, budget, kept):
    a, b = longest_first(tf.constant(lengths[:1]), tf.constant(lengths[1:]), budget)
    assert (int(a[0]), int(b[0])) == kept


CUT_BY_BOTH = [
    BertTokenizer(VOCAB, max_length=13, truncation=truncation)
    for truncation in ("longest_first", "head_tail")
]


@given(
    a=st.lists(st.sampled_from(["the", "cat", "un", ","]), max_size=24),
    b=st.none() | st.lists(st.sampled_from(["the", "cat", "un", ","]), max_size=24),
)
def test_head_tail_keeps_a_quarter_and_the_end_of_as_much_as_longest_first(a, b):
    texts = [[" ".join(text)] for text in (a, b) if text is not None]
    first, both_ends = (cut.encode(*texts) for cut in CUT_BY_BOTH)
    expected = [CLS]
    for number, pieces in enumerate(CUT_BY_BOTH[0].tokenize(text)[0] for text in texts):
        pieces = pieces.numpy().tolist()
        kept = first.type_ids.to_list()[0].count(number) - 1 - (number == 0)
        tail = pieces[len(pieces) - (kept - kept // 4) :]
        expected += [*pieces[: kept // 4], *tail, SEP]
    assert both_ends.token_ids.to_list() == [expected]
    assert both_ends.type_ids.to_list() == first.type_ids.to_list()


def test_says_how_long_texts_are_before_they_are_cut(tokenizer):
    pairs = ["cat " * 9, "the", "the cat"], ["cat", "the cat", "cat " * 4]
    for encoded, lengths, is_cut in (
        (tokenizer.encode(pairs[0]), [11, 3, 4], [True, False, False]),
        (tokenizer.encode(*pairs), [13, 6, 9], [True, False, True]),
        (tokenizer.encode_mixed(*pairs, [True, False, True]), [13, 3, 9], [True, False, True]),
    ):
        assert encoded.whole_lengths.numpy().tolist() == lengths
        assert encoded.is_cut.numpy().tolist() == is_cut


def test_texts_of_different_number_are_refused(tokenizer):
    with pytest.raises(tf.errors.InvalidArgumentError, match="equally many"):
        tokenizer.encode(["the", "cat"], ["cat"])


def test_runs_in_tf_data(tokenizer):
    data = tf.data.Dataset.from_tensor_slices((["the cat", "cats"], ["cat", "é"])).batch(2)
    ((token_ids, type_ids, *_),) = data.map(tokenizer.encode)
    expected = tokenizer.encode(["the cat", "cats"], ["cat", "é"])
    assert token_ids.to_list() == expected[0].to_list()
    assert type_ids.to_list() == expected[1].to_list()


def test_runs_in_a_saved_model(tokenizer, tmp_path):
    module = tf.Module()
    spec = tf.TensorSpec([None], tf.string)
    module.encode = tf.function(tokenizer.encode, input_signature=[spec, spec])
    tf.saved_model.save(module, tmp_path)
    texts = ["the cats", "İ\u200b " + "é" * 101], ["cat " * 9, "中"]
    loaded = tf.saved_model.load(tmp_path).encode(*map(tf.constant, texts))
    for got, expected in zip(loaded[:2], tokenizer.encode(*texts)[:2], strict=True):
        assert got.to_list() == expected.to_list()


def test_saves_and_loads(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "run")
    tokenizer.save(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"vocab.txt", "tokenizer.json"}
    loaded = load_tokenizer(tmp_path / "run")
    assert loaded.fingerprint == tokenizer.fingerprint
    assert (loaded.vocab, loaded.lower_case, loaded.max_length) == (tuple(VOCAB), True, 8)


def test_every_setting_survives_saving(tmp_path):
    settings = {"lower_case": True, "strip_accents": False, "tokenize_chinese_chars": False}
    settings |= {"max_length": 9, "truncation": "head_tail", "windows": 3}
    tokenizer = BertTokenizer(VOCAB, **settings)
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.settings == settings
    assert loaded.fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("lower_case", [True, False])
def test_runs_older_than_a_setting_load_as_they_were(lower_case, tmp_path):
    BertTokenizer(VOCAB).save(tmp_path)
    settings = {"lower_case": lower_case, "max_length": 8}
    (tmp_path / "tokenizer.json").write_text(json.dumps(settings))
    loaded = load_tokenizer(tmp_path)
    assert (loaded.strip_accents, loaded.tokenize_chinese_chars) == (lower_case, True)
    assert loaded.truncation == "longest_first"
    parts = [1, VOCAB, lower_case, 8]  # What was hashed then: their data is taken up again.
    assert loaded.fingerprint == hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def test_line_separators_within_pieces_survive(tmp_path):
    tokenizer = BertTokenizer([*SPECIAL, "a\u2028b", "\x85", "\x1d"])
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path).vocab == tokenizer.vocab


def test_windows_line_ends(tmp_path):
    (tmp_path / "vocab.txt").write_bytes("\r\n".join([*VOCAB, ""]).encode())
    assert BertTokenizer.from_file(tmp_path / "vocab.txt").vocab == tuple(VOCAB)


def test_fingerprint_tells_tokenizers_apart():
    same = BertTokenizer(VOCAB)
    others = [
        BertTokenizer(VOCAB, lower_case=False),
        BertTokenizer(VOCAB, max_length=64),
        BertTokenizer([*VOCAB, "more"]),
        BertTokenizer(VOCAB, strip_accents=False),
        BertTokenizer(VOCAB, tokenize_chinese_chars=False),
        BertTokenizer(VOCAB, truncation="head_tail"),
    ]
    prints = {tokenizer.fingerprint for tokenizer in [same, *others]}
    assert len(prints) == 7
    assert BertTokenizer(VOCAB).fingerprint == same.fingerprint
    assert all(len(fingerprint) == 64 for fingerprint in prints)


@pytest.mark.parametrize(
    ("vocab", "message"),
    [
        (["[PAD]", "[UNK]", "a"], r"the vocabulary lacks \[CLS\], \[SEP\]"),
        ([*VOCAB, "cat"], "'cat' twice, as pieces 5 and 16"),
        ([*VOCAB, ""], "piece 16 is empty"),
        ([*VOCAB, "\r"], r"piece 16 has a line end: '\\r'"),
        ([*VOCAB, "a\nb"], r"piece 16 has a line end: 'a\\nb'"),
        ([*VOCAB, "x" * 300], "can't be used: .* exceeds the max"),
    ],
)
def test_unusable_vocabulary(vocab, message):
    with pytest.raises(UserError, match=message) as error:
        BertTokenizer(vocab)
    assert "\n" not in str(error.value)


def test_unusable_vocabulary_file(tmp_path):
    file = tmp_path / "vocab.txt"
    with pytest.raises(UserError, match=r"vocab.txt: can't read the vocabulary \(No such file"):
        BertTokenizer.from_file(file)
    file.write_bytes(b"[PAD]\n\xff\n")
    with pytest.raises(UserError, match=r"vocab.txt: not UTF-8 at byte 6"):
        BertTokenizer.from_file(file)
    file.write_text("[PAD]\n")
    with pytest.raises(UserError, match=r"vocab.txt: the vocabulary lacks \[UNK\]"):
        BertTokenizer.from_file(file)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"lower_case": 1, "max_length": 8}',
        '{"lower": true}',
        '{"lower_case": true, "max_length": 8, "strip_accents": null}',
        '{"tokenizer": "sentencepiece", "lower_case": true, "max_length": 8}',
    ],
)
def test_unusable_settings(tmp_path, text):
    with pytest.raises(UserError, match=r"tokenizer.json: can't read"):
        load_tokenizer(tmp_path)
    BertTokenizer(VOCAB).save(tmp_path)
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match=r"tokenizer.json: .*expected"):
        load_tokenizer(tmp_path)


def test_max_length_too_short():
    with pytest.raises(UserError, match="max_length 2 is too short for one text"):
        BertTokenizer(VOCAB, max_length=2)
    short = BertTokenizer(VOCAB, max_length=4)
    assert short.encode(["the cats"])[0].to_list() == [[CLS, THE, CAT, SEP]]
    with pytest.raises(UserError, match="max_length 4 is too short for a pair"):
        short.encode(["the"], ["cat"])


def test_ids_do_not_depend_on_the_locale():
    # TensorFlow lower-cases by the process's locale: in Turkish, I becomes a dotless i; in
    # Lithuanian, an accented i keeps its dot.
    code = f"""
from mtdnn_tf.tokenizers.wordpiece import BertTokenizer
print(BertTokenizer({VOCAB!r}).tokenize(["I İ", "Í,Ì", "é I"]).to_list())
accented = BertTokenizer([*{SPECIAL!r}, "i\u0307", "ì"], strip_accents=False)
print(accented.tokenize(["İ Ì"]).to_list())
"""
    for locale in ("tr_TR.UTF-8", "lt_LT.UTF-8"):
        done = run("", script=code, env={"LC_ALL": locale, "PYTHONIOENCODING": "utf-8"})
        assert done.stdout.splitlines() == [
            str([[LETTER_I, LETTER_I], [LETTER_I, COMMA, LETTER_I], [UNK, LETTER_I]]),
            "[[4, 5]]",
        ]
