import hashlib
import json
import os
import shutil
from collections import Counter

import numpy as np
import pytest
from absl import logging
from harness.runs import run
from harness.tasks import VOCAB, write_tasks

from mtdnn_tf.data import store as store_module
from mtdnn_tf.data.cache import entries
from mtdnn_tf.data.sources import read_split
from mtdnn_tf.data.store import open_store
from mtdnn_tf.data.store_folder import Damaged, StoreWriter, new_folder
from mtdnn_tf.data.tokenizing import tokenize_rows
from mtdnn_tf.data.uids import Uids
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.file import build_experiment
from mtdnn_tf.tasks import resolve_task
from mtdnn_tf.tokenizers.wordpiece import BertTokenizer

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
    assert store.uids.data.nbytes == sum(map(len, rows.uids))
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


@pytest.mark.parametrize("quoting", [None, "none", "csv"])
def test_the_same_bytes_in_another_format_are_another_store(tmp_path, tokenizer, quoting):
    keys = set()
    for name in ("x.txt", "x.csv"):
        (tmp_path / name).write_text('a\n"the ""hat"""\n')
        split = {"file": name, "quoting": quoting, "columns": {"label": None}}
        task = resolve_task("own", {**OWN, "fields": ["a"], "splits": {"test": split}})
        store = open_store(task, "test", tmp_path, tokenizer, tmp_path / "cache")
        keys.add(store.key)
    assert len(keys) == 2


OWN = {"kind": "single_classification", "labels": ["no", "yes"], "metrics": ["accuracy"]}


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
    "labels that are not listed": lambda folder: edit_description(folder, leave_out_labels),
    "groups of no ranking task": lambda folder: add_groups(folder),
    "fewer values than there are": lambda folder: list_values(folder, "labels", 95),
    "more values than there are": lambda folder: list_values(folder, "labels", 97),
    "less than no values": lambda folder: list_values(folder, "labels", -1),
    "no values": lambda folder: list_values(folder, "labels", 0),
    "labels of fewer examples": lambda folder: shorten(folder, "labels", 4),
    "names of fewer examples": lambda folder: shorten(folder, "uid_offsets", 8),
    "fewer tokens than the offsets say": lambda folder: shorten(folder, "token_ids", 4),
}


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def change_last_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def edit_description(folder, edit):
    path = folder / "meta.json"
    description = json.loads(path.read_text())
    edit(description["arrays"])
    path.write_text(json.dumps(description))


def list_values(folder, name, size):
    edit_description(folder, lambda arrays: arrays[name].update(size=size))


def shorten(folder, name, item_bytes):
    """Makes an array shorter by a value, as its description says as well."""
    path = folder / f"{name}.bin"
    content = path.read_bytes()[:-item_bytes]
    path.write_bytes(content)
    size, sha256 = len(content) // item_bytes, hashlib.sha256(content).hexdigest()
    edit_description(folder, lambda arrays: arrays[name].update(size=size, sha256=sha256))


def add_groups(folder):
    content = bytes(4 * 96)
    (folder / "groups.bin").write_bytes(content)
    groups = {"size": 96, "sha256": hashlib.sha256(content).hexdigest()}
    edit_description(folder, lambda arrays: arrays.update(groups=groups))


def change_key(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": "0" * 64}))


def leave_out_labels(arrays):
    del arrays["labels"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_made_again_with_a_line(damage, task, tmp_path, tokenizer, monkeypatch):
    before = opened(task, tmp_path, tokenizer)
    expected = {name: np.array(getattr(before, name)) for name in ARRAYS}
    (folder,) = (tmp_path / "cache").iterdir()
    DAMAGES[damage](folder)
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: warnings.append(text % values))
    again = opened(task, tmp_path, tokenizer)
    assert [
        f"the token store {folder} is damaged or of another version (" in text for text in warnings
    ] == [True]
    for name, array in expected.items():
        np.testing.assert_array_equal(getattr(again, name), array)


@pytest.mark.parametrize("ranking", [False, True])
def test_of_a_small_part_no_more_is_tokenised_and_it_is_that_of_the_whole(
    ranking, tmp_path, tokenizer, monkeypatch
):
    monkeypatch.setattr(store_module, "CHUNK", 5)
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
    encode = store_module.encode_texts
    monkeypatch.setattr(
        store_module,
        "encode_texts",
        lambda by, texts: encoded.append(len(texts[0])) or encode(by, texts),
    )
    part = open_store(task, "train", tmp_path, tokenizer, tmp_path / "a", choices=choices)
    assert sum(encoded) == len(part) < 3 * len(QUERIES) / 2
    open_store(task, "train", tmp_path, tokenizer, tmp_path / "b")
    whole = open_store(task, "train", tmp_path, tokenizer, tmp_path / "b", choices=choices)
    assert part.key == whole.key
    store = open_store(task, "train", tmp_path, tokenizer, tmp_path / "b")
    assert store.uids.tolist() == read_split(task, "train", tmp_path).uids
    for name in (*ARRAYS, *(["groups"] if ranking else [])):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name))


QUERIES = [(q, noun) for q, noun in enumerate("boat clock door field garden hat lamp road".split())]


def test_no_rows_are_no_tokens(task, tokenizer, tmp_path):
    rows = read_split(task, "train", tmp_path / "data")
    empty = type(rows)(texts={"a": [], "b": []}, labels=None, uids=[], skipped=0)
    store = tokenize_rows(task, empty, tokenizer)
    assert len(store) == 0
    assert store.offsets.tolist() == [0]


def test_two_makers_of_one_store_do_not_meet_whatever_their_process_ids(tmp_path):
    with new_folder(tmp_path / "x") as first, new_folder(tmp_path / "x") as second:
        (first / "a").write_text("first")
        (second / "a").write_text("second")
        assert (first / "a").read_text() == "first"
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o777 & ~umask()


def umask():
    old = os.umask(0)
    os.umask(old)
    return old


def test_a_file_that_changes_while_it_is_read_makes_no_store(
    task, tmp_path, tokenizer, monkeypatch
):
    path = tmp_path / "data/same_train.jsonl"
    encode = BertTokenizer.encode

    def encode_while_it_is_written(self, *texts):
        path.write_text(path.read_text())
        os.utime(path, ns=(0, 0))
        return encode(self, *texts)

    with monkeypatch.context() as patch:
        patch.setattr(BertTokenizer, "encode", encode_while_it_is_written)
        with pytest.raises(UserError, match=r"same_train.jsonl changed while it was read"):
            opened(task, tmp_path, tokenizer)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_store_that_another_process_makes_again_meanwhile_is_taken(
    task, tmp_path, tokenizer, monkeypatch
):
    opened(task, tmp_path, tokenizer)
    calls, whole = Counter(), store_module.read_store

    def damaged_at_first(folder):
        calls["read"] += 1
        if calls["read"] == 1:
            raise Damaged("half of it")
        return whole(folder)

    monkeypatch.setattr(store_module, "read_store", damaged_at_first)
    monkeypatch.setattr(BertTokenizer, "encode", None)
    assert len(opened(task, tmp_path, tokenizer)) == 96


def test_uids_are_strings_of_any_length_by_position():
    names = ["7", "a-rather-long-one" * 9, "schön", "", *map(str, range(5000))]
    uids = Uids.of(names)
    assert (list(uids), uids[2], uids[-1], len(uids)) == (names, "schön", "4999", len(names))
    picked = np.array([4, 2, 3, 1])
    assert uids[picked].tolist() == [names[i] for i in picked]
    assert uids[np.array([], int)].tolist() == uids[:0].tolist() == []
    assert uids[1:3].joined(uids[:1]).tolist() == [*names[1:3], "7"]
    assert np.asarray(uids).tolist() == names
    assert np.isin(uids, ["schön", "1"]).sum() == 2


def test_the_cache_leaves_alone_what_is_no_store_or_is_being_written(tmp_path):
    for name, file in {
        "rte-train-00112233445566aa": "00000000.npy",  # Soft targets.
        "rte-train-00112233445566ab.partial-12ab": "token_ids.bin",
        "rte-train-00112233445566ac.partial-12": "token_ids.bin",
        "rte-train-00112233445566ad": "token_ids.npy",
    }.items():
        (tmp_path / name).mkdir()
        for there in ("meta.json", file):
            (tmp_path / name / there).write_text("{}")
            os.utime(tmp_path / name / there, (0, 0) if "ac" in name else None)
    assert {entry.folder.name[22:]: entry.name for entry in entries(tmp_path)} == {
        "66ac.partial-12": "rte-train (half-written)",
        "66ad": "rte-train",
    }


def test_a_store_that_another_process_removes_meanwhile_is_not_listed(tmp_path, monkeypatch):
    folder = tmp_path / "rte-train-00112233445566ad"
    folder.mkdir()
    (folder / "token_ids.bin").write_text("")
    glob = type(folder).glob

    def glob_and_remove(self, pattern):
        found = list(glob(self, pattern))
        shutil.rmtree(folder)
        return found

    monkeypatch.setattr(type(folder), "glob", glob_and_remove)
    assert entries(tmp_path) == []


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
