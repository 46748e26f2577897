"""The tokenizer of an encoder's folder is the one that the encoder was trained with, or is refused."""

import itertools
import json
import re

import pytest
from harness.tasks import SPECIALS, VOCAB
from transformers import AutoTokenizer, BertTokenizerFast

from mtdnn_tf.errors import UserError
from mtdnn_tf.modeling import BertConfig
from mtdnn_tf.pretrained import files_read, read_tokenizer, resolve
from mtdnn_tf.tokenizers.wordpiece import BertTokenizer

TEXTS = ["The BOAT is Schön, schon", "中文字 x中y", "É e"]
PIECES = [*VOCAB, "schön", "schon", "The", ",", "中", "中文字", "##文", "É", "é", "e"]
CONFIG = BertConfig(vocab_size=len(PIECES) + 3, hidden_size=4, num_heads=1).to_hf_dict()


def write(path, values):
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    """A folder without a tokenizer, of a name that says nothing."""
    path = tmp_path / "model"
    path.mkdir()
    write(path / "config.json", CONFIG)
    write(path / "model.safetensors", "")
    return path


@pytest.fixture
def saved(folder):
    """The folder as transformers 5 saves it, uncased."""
    BertTokenizerFast({piece: n for n, piece in enumerate(PIECES)}).save_pretrained(folder)
    assert not (folder / "vocab.txt").exists()
    return folder


def change(path, **values):
    """Changes values of a JSON file; a double underscore leads into a mapping."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    for key, value in values.items():
        *way, last = key.split("__")
        part = tree
        for name in way:
            part = part[name]
        part[last] = value
    write(path, tree)


def ids_of(folder):
    found = read_tokenizer(folder)
    return BertTokenizer(found.vocab, **found.settings).tokenize(TEXTS).to_list()


def refused(folder):
    with pytest.raises(UserError) as error:
        read_tokenizer(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


SETTINGS = {
    "do_lower_case": (True, False),
    "strip_accents": (True, False, None),
    "tokenize_chinese_chars": (True, False),
}


@pytest.mark.parametrize("values", itertools.product(*SETTINGS.values()))
def test_a_folder_of_transformers_5_gives_its_ids(values, folder):
    vocab = {piece: n for n, piece in enumerate(PIECES)}
    theirs = BertTokenizerFast(vocab, **dict(zip(SETTINGS, values, strict=True)))
    theirs.save_pretrained(folder)
    assert resolve(str(folder)) == folder
    expected = [theirs(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    assert ids_of(folder) == expected


CLASSES = (None, "BertTokenizerFast", "TokenizersBackend")


@pytest.mark.parametrize("config_class", CLASSES)
@pytest.mark.parametrize("tokenizer_class", [*CLASSES, "no file"])
def test_what_a_config_leaves_out_is_as_its_class_has_it(tokenizer_class, config_class, saved):
    for name in ("lowercase", "strip_accents", "handle_chinese_chars"):
        change(saved / "tokenizer.json", **{f"normalizer__{name}": False})
    write(saved / "config.json", CONFIG | {"tokenizer_class": config_class})
    write(saved / "tokenizer_config.json", {"tokenizer_class": tokenizer_class})
    if tokenizer_class == "no file":
        (saved / "tokenizer_config.json").unlink()
        tokenizer_class = None
    theirs = AutoTokenizer.from_pretrained(saved)
    assert ids_of(saved) == [theirs(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    notes = "\n".join(read_tokenizer(saved).notes)
    told = "True in BertTokenizer's default, which is believed, False in tokenizer.json" in notes
    assert told is ((tokenizer_class or config_class) != "TokenizersBackend")


def test_a_class_that_the_encoders_config_names_is_refused_as_well(saved):
    write(saved / "config.json", CONFIG | {"tokenizer_class": "BertJapaneseTokenizer"})
    read_tokenizer(saved)  # tokenizer_config.json goes first.
    write(saved / "tokenizer_config.json", {"do_lower_case": False})
    told = refused(saved)
    assert f"{saved / 'config.json'}: tokenizer_class" in told
    assert "not 'BertJapaneseTokenizer'" in told


def test_a_vocab_txt_and_a_config_say_it_as_well(saved):
    expected = ids_of(saved)
    write(saved / "vocab.txt", "\n".join([*PIECES, ""]))
    assert ids_of(saved) == expected
    (saved / "tokenizer.json").unlink()
    assert ids_of(saved) == expected
    change(saved / "tokenizer_config.json", strip_accents=False)
    assert PIECES.index("schön") in ids_of(saved)[0]
    assert "strip_accents: false, from tokenizer_config.json" in read_tokenizer(saved).notes


def test_two_files_that_differ_are_told(saved):
    change(saved / "tokenizer.json", normalizer__strip_accents=False)
    assert PIECES.index("schön") not in ids_of(saved)[0]
    expected = (
        "strip_accents is None in tokenizer_config.json, which is believed, False in tokenizer.json"
    )
    assert expected in read_tokenizer(saved).notes
    # A class that is not BERT's own does what tokenizer.json says.
    change(saved / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    assert PIECES.index("schön") in ids_of(saved)[0]
    write(saved / "vocab.txt", "\n".join([*PIECES[:-1], "other"]))
    number = len(PIECES) - 1
    message = (
        f"piece {number} is 'e' in the one, 'other' in the other; remove the one that is wrong"
    )
    assert message in refused(saved)


OTHER_TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
}


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("tokenizer_config", {"tokenizer_class": "RobertaTokenizer"}, "not 'RobertaTokenizer'"),
        ("tokenizer_config", {"word_tokenizer_type": "mecab"}, "should be 'basic', not 'mecab'"),
        ("tokenizer_config", {"subword_tokenizer_type": "character"}, "'wordpiece', not 'character'"),
        ("tokenizer_config", {"do_lower_case": "false"}, "do_lower_case: .*boolean, not 'false'"),
        ("tokenizer_config", {"sep_token": "</s>"}, r"sep_token: should be '\[SEP\]', not '</s>'"),
        ("tokenizer", {"model__type": "BPE"}, "model.type: should be 'WordPiece', not 'BPE'"),
        ("tokenizer", {"model__unk_token": "<unk>"}, "model.unk_token: .* not '<unk>'"),
        ("tokenizer", {"model__continuing_subword_prefix": "@"}, "subword_prefix: .*'##', not '@'"),
        ("tokenizer", {"model__max_input_chars_per_word": 50}, "chars_per_word: .*100, not 50"),
        ("tokenizer", {"model__vocab": PIECES}, "model.vocab: should be a mapping"),
        ("tokenizer", {"model__vocab": {"[PAD]": 1, "[CLS]": 1}}, "the ids of .* are not 0 to"),
        ("tokenizer", {"model__vocab": {"a": 0}, "added_tokens": []}, r"lacks \[PAD\], \[UNK\]"),
        ("tokenizer", {"normalizer__type": "Lowercase"}, "normalizer.type: .* not 'Lowercase'"),
        ("tokenizer", {"normalizer__clean_text": False}, "clean_text: should be True, not False"),
        ("tokenizer", {"normalizer": None}, "normalizer: should be a mapping"),
        ("tokenizer", {"pre_tokenizer__type": "Whitespace"}, "type: .*, not 'Whitespace'"),
        ("tokenizer", {"post_processor": {"type": "RobertaProcessing"}}, "RobertaProcessing"),
        ("tokenizer", {"post_processor__special_tokens__[CLS]__ids": [4]},
         r"post_processor: \[CLS\] and \[SEP\] are 4 and 3; expected 2 and 3, as in the vocabulary"),
        ("tokenizer", {"post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 2],
                                          "sep": ["[SEP]", 2]}}, "are 2 and 2; expected 2 and 3"),
        ("tokenizer", {"post_processor": OTHER_TEMPLATE}, r"post_processor \(TemplateProcessing\)"),
        ("tokenizer", {"added_tokens": [{"id": 44, "content": "covid"}]}, "the tokens 'covid'"),
    ],
)  # fmt: skip
def test_another_tokenizer_is_refused_by_what_is_other(saved, file, changes, message):
    path = saved / f"{file}.json"
    change(path, **changes)
    assert re.search(message, told := refused(saved)), told
    assert str(path) in told


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_file_is_told(saved, file, content):
    write(saved / file, content)
    assert str(saved / file) in refused(saved)


def test_a_token_that_was_added_later_is_refused_wherever_it_is_said(folder):
    write(folder / "vocab.txt", "\n".join(PIECES))
    write(folder / "added_tokens.json", {"[MASK]": 4, "covid": len(PIECES)})
    assert "added_tokens.json: adds the tokens 'covid'" in refused(folder)
    (folder / "added_tokens.json").unlink()
    decoder = {"0": {"content": "[PAD]"}, str(len(PIECES)): {"content": "covid"}}
    write(folder / "tokenizer_config.json", {"added_tokens_decoder": decoder})
    assert "tokenizer_config.json: adds the tokens 'covid'" in refused(folder)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("additional_special_tokens", ["[MASK]", "warm"], "adds the tokens 'warm'"),
        ("extra_special_tokens", ["warm", "[MASK]"], "adds the tokens 'warm'"),
        ("extra_special_tokens", {"hot_token": "warm"}, "adds the tokens 'warm'"),
        ("mask_token", "warm", "adds the tokens 'warm'"),
        ("hot_token", "warm", "adds the tokens 'warm'"),
        ("cls_token", "warm", r"cls_token: should be '[CLS]', not 'warm'"),
    ],
)
def test_special_tokens_are_refused_wherever_they_are_said(folder, file, key, value, message):
    write(folder / "vocab.txt", "\n".join(VOCAB))
    right = {"cls_token": "[CLS]", "mask_token": "[MASK]", "additional_special_tokens": []}
    write(folder / file, right)
    assert ids_of(folder)[0][:3] == [VOCAB.index(piece) for piece in ("the", "boat", "is")]
    write(folder / file, right | {key: value})
    assert f"{folder / file}: {message}" in refused(folder)
    theirs = AutoTokenizer.from_pretrained(folder)("warmboat")["input_ids"]
    assert VOCAB.index("warm") in theirs  # It is cut out of a text, or put around it.
    assert folder / file in files_read(folder)


@pytest.mark.parametrize(
    ("file", "key", "value", "note"),
    [
        ("tokenizer_config.json", "truncation_side", "left", "truncation_side is left in "),
        ("sentence_bert_config.json", "do_lower_case", True, "do_lower_case of sentence_bert"),
    ],
)
def test_what_is_not_done_is_told(saved, file, key, value, note):
    (saved / "sentence_bert_config.json").write_text('{"do_lower_case": false}')
    assert len(read_tokenizer(saved).notes) == 2
    change(saved / file, **{key: value})
    assert read_tokenizer(saved).notes[1].startswith(note)


@pytest.mark.parametrize("content", ["", "\n", "a\nb\n"])
def test_an_empty_vocabulary_is_told(folder, content):
    write(folder / "vocab.txt", content)
    assert "vocab.txt: the vocabulary lacks [PAD], [UNK], [CLS], [SEP]" in refused(folder)


@pytest.mark.parametrize(("more", "told"), [(0, None), (1, "1 row is"), (8, "8 rows are")])
def test_rows_of_the_table_without_a_piece_are_told_once(folder, more, told):
    write(folder / "vocab.txt", "\n".join([*VOCAB, ""]))
    write(folder / "config.json", CONFIG | {"vocab_size": len(VOCAB) + more})
    notes = [note for note in read_tokenizer(folder).notes if "unused" in note]
    line = f"vocabulary has {len(VOCAB)} pieces, the table {len(VOCAB) + more} rows; {told} unused"
    assert notes == ([line] if told else [])


def test_more_pieces_than_rows_are_refused(folder):
    write(folder / "vocab.txt", "\n".join([*VOCAB, ""]))
    write(folder / "config.json", CONFIG | {"vocab_size": len(VOCAB) - 1})
    expected = (
        f"vocab.txt: {len(VOCAB)} word pieces; expected vocab_size {len(VOCAB) - 1} (config.json)"
    )
    assert expected in refused(folder)


CASED = [piece.capitalize() for piece in VOCAB if piece not in SPECIALS]
CHINESE = [chr(0x4E00 + n) for n in range(9)]


@pytest.mark.parametrize(
    ("name", "files", "words", "expected", "evidence"),
    [
        ("bert-base-cased", {"tokenizer_config": {"do_lower_case": True}}, CASED, True,
         "tokenizer_config.json"),
        ("showcased/minilm-uncased", {}, CHINESE, True, "the model's name 'minilm-uncased'"),
        ("uncased-models/bert_base_cased", {}, CHINESE, False, "the model's name 'bert_base_cased'"),
        ("uncased_L-12", {}, CASED, True, "the model's name 'uncased_L-12'"),
        ("models--google--bert-cased/snapshots/0123", {}, CHINESE, False,
         "the model's name 'bert-cased'"),
        ("x", {"config": CONFIG | {"_name_or_path": "/cased/bert-uncased"}}, CHINESE, True,
         "_name_or_path of config.json 'bert-uncased'"),
        ("showcased", {}, VOCAB[5:], True, "its vocabulary: no piece has a capital"),
        ("cased-and-uncased", {}, CASED, False, "its vocabulary: 37 of 37 pieces have capitals"),
        ("showcased", {}, CHINESE, None, None),
        ("showcased", {}, [*VOCAB[5:], "A"], None, None),
    ],
)  # fmt: skip
def test_lower_casing_is_said_by_files_names_or_the_vocabulary(
    tmp_path, name, files, words, expected, evidence
):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    for file, values in ({"config": CONFIG} | files).items():
        write(folder / f"{file}.json", values)
    write(folder / "vocab.txt", "\n".join([*SPECIALS, *words]))
    if expected is None:
        assert "set encoder.lower_case" in refused(folder)
        assert not read_tokenizer(folder, lower_case=False).settings["lower_case"]
        return
    found = read_tokenizer(folder)
    assert found.settings["lower_case"] is expected
    assert f"lower_case: {str(expected).lower()}, from {evidence}" in found.notes


def test_accents_go_with_a_lower_casing_that_is_given(saved):
    cased = read_tokenizer(saved, lower_case=False)
    assert cased.settings == {
        "lower_case": False,
        "strip_accents": False,
        "tokenize_chinese_chars": True,
    }
