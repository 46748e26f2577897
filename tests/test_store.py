import json
from pathlib import Path

import numpy as np
import pytest
from absl import logging
from tiny import VOCAB, run, write_tasks

from mtdnn_tf.data import store as store_module
from mtdnn_tf.data.cache import default_cache_dir, entries
from mtdnn_tf.data.sources import read_split
from mtdnn_tf.data.store import open_store, tokenize_rows
from mtdnn_tf.data.store_folder import StoreWriter
from mtdnn_tf.data.tokenizer import BertTokenizer
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment_file import build_experiment
from mtdnn_tf.tasks import resolve_task

ARRAYS = ("token_ids", "type_ids", "offsets", "labels", "uids", "whole_lengths", "is_cut")


@pytest.fixture
def task(tmp_path):
    return build_experiment({"tasks": write_tasks(tmp_path / "data")}, "test").tasks["same"]


@pytest.fixture
def tokenizer():
    return BertTokenizer(VOCAB, max_length=16)


def opened(task, tmp_path, tokenizer, split="train"):
    return open_store(task, split, tmp_path / "data", tokenizer, tmp_path / "cache")


def test_a_store_holds_what_the_tokenizer_gives_in_order(task, tmp_path, tokenizer):
    store = opened(task, tmp_path, tokenizer)
    rows = read_split(task, "train", tmp_path / "data")
    assert len(store) == len(rows) == 96
    ids, types, *_ = tokenizer.encode(rows.texts["a"], rows.texts["b"])
    for i, (row_ids, row_types) in enumerate(zip(ids.to_list(), types.to_list(), strict=True)):
        part = slice(store.offsets[i], store.offsets[i + 1])
        assert store.token_ids[part].tolist() == row_ids
        assert store.type_ids[part].tolist() == row_types
    np.testing.assert_array_equal(store.labels, rows.labels)
    assert store.uids.tolist() == rows.uids
    assert store.token_ids.dtype == store.type_ids.dtype == np.int32


def test_every_opening_tells_how_many_texts_are_cut(task, tmp_path, caplog):
    short, whole = BertTokenizer(VOCAB, max_length=12), BertTokenizer(VOCAB, max_length=64)
    lengths = opened(task, tmp_path, whole).lengths
    assert "cut" not in caplog.text
    is_cut, median = lengths > 12, int(np.median(lengths))
    said = f"same/train: {is_cut.sum()} of 96 texts are cut at 12 tokens (median length {median}"
    for _ in range(2):
        caplog.clear()
        store = opened(task, tmp_path, short)
        assert f"{said}, longest {lengths.max()})" in caplog.text
    part = store.subset(np.flatnonzero(is_cut)[:3])
    assert (part.cut.cut, store.subset(np.flatnonzero(~is_cut)[:3]).cut.cut) == (3, 0)
    assert store.joined(part).cut.cut == is_cut.sum() + 3


def test_a_second_opening_reads_the_stored_arrays(task, tmp_path, tokenizer, monkeypatch):
    first = opened(task, tmp_path, tokenizer)
    monkeypatch.setattr(BertTokenizer, "encode", None)
    second = opened(task, tmp_path, tokenizer)
    assert isinstance(second.token_ids, np.memmap)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_anything_that_changes_the_arrays_makes_a_new_key(task, tmp_path, tokenizer):
    keys = [opened(task, tmp_path, tokenizer).key]
    keys.append(opened(task, tmp_path, BertTokenizer(VOCAB, max_length=15)).key)
    keys.append(opened(task, tmp_path, BertTokenizer([*VOCAB, "new"], max_length=16)).key)
    swapped = task.model_copy(update={"fields": ("b", "a")})
    keys.append(opened(swapped, tmp_path, tokenizer).key)
    relabelled = task.model_copy(update={"labels": ("yes", "no")})
    keys.append(opened(relabelled, tmp_path, tokenizer).key)
    path = tmp_path / "data/same_train.jsonl"
    path.write_text(path.read_text() + '{"a": "the hat .", "b": "a lamp .", "label": "no"}\n')
    keys.append(opened(task, tmp_path, tokenizer).key)
    assert len(set(keys)) == len(keys)


def test_what_does_not_change_the_arrays_keeps_the_key(task, tmp_path, tokenizer):
    key = opened(task, tmp_path, tokenizer).key
    other = task.model_copy(update={"dropout": 0.5, "loss_weight": 3.0, "metrics": ("accuracy",)})
    assert opened(other, tmp_path, tokenizer).key == key
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = open_store(task, "train", tmp_path / "moved", tokenizer, tmp_path / "cache")
    assert moved.key == key


def test_a_store_that_failed_halfway_is_never_read(task, tmp_path, tokenizer, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "finish", fail)
        with pytest.raises(UserError, match="No space left on device"):
            opened(task, tmp_path, tokenizer)
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(opened(task, tmp_path, tokenizer)) == 96


DAMAGES = {
    "a missing array": lambda folder: (folder / "labels.bin").unlink(),
    "an empty array": lambda folder: (folder / "labels.bin").write_bytes(b""),
    "half an array": lambda folder: cut(folder / "token_ids.bin"),
    "other values": lambda folder: change_last_byte(folder / "offsets.bin"),
    "no description": lambda folder: (folder / "meta.json").unlink(),
    "a list": lambda folder: (folder / "meta.json").write_text("[1, 2]"),
    "no JSON": lambda folder: (folder / "meta.json").write_text("{"),
    "an older version's": lambda folder: (folder / "meta.json").write_text(
        '{"key": "x", "skipped": 0, "remark": ""}'
    ),
    "another store's": lambda folder: change_key(folder / "meta.json"),
    "labels that are not listed": lambda folder: leave_out_labels(folder / "meta.json"),
}


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def change_last_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def change_key(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": "0" * 64}))


def leave_out_labels(path):
    description = json.loads(path.read_text())
    del description["arrays"]["labels"]
    path.write_text(json.dumps(description))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_made_again_with_a_line(damage, task, tmp_path, tokenizer, monkeypatch):
    before = opened(task, tmp_path, tokenizer)
    expected = {name: np.array(getattr(before, name)) for name in ARRAYS}
    (folder,) = (tmp_path / "cache").iterdir()
    DAMAGES[damage](folder)
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: warnings.append(text % values))
    again = opened(task, tmp_path, tokenizer)
    assert [f"the token store {folder} is damaged (" in text for text in warnings] == [True]
    for name, array in expected.items():
        np.testing.assert_array_equal(getattr(again, name), array)


@pytest.mark.parametrize("ranking", [False, True])
def test_of_a_small_part_no_more_is_tokenised_and_it_is_that_of_the_whole(
    ranking, tmp_path, tokenizer, monkeypatch
):
    monkeypatch.setattr(store_module, "_CHUNK", 5)
    lines = ["query\tcandidate\tlabel"]
    lines += [f"the {q} {n}\tis very {i}\t{int(i == q % 3)}" for i in range(3) for q, n in QUERIES]
    (tmp_path / "x.tsv").write_text("\n".join(lines) + "\n")
    task = resolve_task(
        "own",
        {
            "kind": "ranking" if ranking else "pair_classification",
            "fields": ["query", "candidate"],
            "labels": ["0", "1"],
            "metrics": ["mrr" if ranking else "accuracy"],
            "splits": {"train": {"file": "x.tsv"}},
        },
    )
    choices = [lambda size: np.arange(0, size, 2), lambda size: np.arange(1, size, 3)]
    encoded = []
    encode = BertTokenizer.encode
    monkeypatch.setattr(
        BertTokenizer, "encode", lambda self, *t: encoded.append(len(t[0])) or encode(self, *t)
    )
    part = open_store(task, "train", tmp_path, tokenizer, tmp_path / "a", choices=choices)
    assert sum(encoded) == len(part) < 3 * len(QUERIES) / 2
    open_store(task, "train", tmp_path, tokenizer, tmp_path / "b")
    whole = open_store(task, "train", tmp_path, tokenizer, tmp_path / "b", choices=choices)
    assert part.key == whole.key
    for name in (*ARRAYS, *(["groups"] if ranking else [])):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name))


QUERIES = [(q, noun) for q, noun in enumerate("boat clock door field garden hat lamp road".split())]


def test_no_rows_are_no_tokens(task, tokenizer, tmp_path):
    rows = read_split(task, "train", tmp_path / "data")
    empty = type(rows)(texts={"a": [], "b": []}, labels=None, uids=[], skipped=0)
    store = tokenize_rows(task, empty, tokenizer)
    assert len(store) == 0
    assert store.offsets.tolist() == [0]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "/home/me/.cache/mtdnn_tf"),
        ({"MTDNN_CACHE_DIR": "~/mine", "XDG_CACHE_HOME": "/other"}, "/home/me/mine"),
        ({"MTDNN_CACHE_DIR": "", "XDG_CACHE_HOME": "~/other"}, "/home/me/other/mtdnn_tf"),
        ({"MTDNN_CACHE_DIR": "gs://b/x"}, None),
        ({"XDG_CACHE_HOME": "gs://b/x"}, None),
    ],
)
def test_the_cache_is_a_local_folder(variables, expected, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for name in ("MTDNN_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if expected is None:
        (name,) = variables
        with pytest.raises(UserError, match=rf"^\${name} is 'gs://b/x': only local files"):
            default_cache_dir()
    else:
        assert default_cache_dir() == Path(expected)


def test_the_cache_lists_its_stores_and_clears_them_alone(task, tmp_path, tokenizer):
    opened(task, tmp_path, tokenizer)
    cache = tmp_path / "cache"
    (cache / "notes").mkdir()
    (store,) = entries(cache)
    size = sum(path.stat().st_size for path in store.folder.iterdir())
    assert (store.name, store.bytes) == ("same-train", size)
    shown = run("cache", f"--cache_dir={cache}")
    assert "same-train" in shown.stdout
    assert store.folder.is_dir()
    assert run("cache", f"--cache_dir={cache}", "--clear", "--older_than_days=1").returncode == 0
    assert store.folder.is_dir()
    assert run("cache", f"--cache_dir={cache}", "--clear").returncode == 0
    assert [path.name for path in cache.iterdir()] == ["notes"]
