import numpy as np
import pytest
from tiny import VOCAB, write_tasks

from mtdnn_tf.data import store as store_module
from mtdnn_tf.data.sources import read_split
from mtdnn_tf.data.store import open_store, tokenize_rows
from mtdnn_tf.data.tokenizer import BertTokenizer
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment_file import build_experiment

ARRAYS = ("token_ids", "type_ids", "offsets", "labels", "uids")


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
    ids, types = tokenizer.encode(rows.texts["a"], rows.texts["b"])
    for i, (row_ids, row_types) in enumerate(zip(ids.to_list(), types.to_list(), strict=True)):
        part = slice(store.offsets[i], store.offsets[i + 1])
        assert store.token_ids[part].tolist() == row_ids
        assert store.type_ids[part].tolist() == row_types
    np.testing.assert_array_equal(store.labels, rows.labels)
    assert store.uids.tolist() == rows.uids
    assert store.token_ids.dtype == store.type_ids.dtype == np.int32


def test_a_second_opening_reads_the_stored_arrays(task, tmp_path, tokenizer, monkeypatch):
    first = opened(task, tmp_path, tokenizer)
    monkeypatch.setattr(store_module, "tokenize_rows", None)
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
    saved = []

    def save_some(path, array, **kwargs):
        saved.append(path)
        if len(saved) == 3:
            raise OSError(28, "No space left on device")
        path.write_bytes(b"")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", save_some)
        with pytest.raises(UserError, match="No space left on device"):
            opened(task, tmp_path, tokenizer)
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(opened(task, tmp_path, tokenizer)) == 96


def test_a_damaged_store_is_named(task, tmp_path, tokenizer):
    opened(task, tmp_path, tokenizer)
    (folder,) = (tmp_path / "cache").iterdir()
    (folder / "offsets.npy").write_bytes(b"junk")
    with pytest.raises(UserError, match="is damaged"):
        opened(task, tmp_path, tokenizer)


def test_no_rows_are_no_tokens(task, tokenizer, tmp_path):
    rows = read_split(task, "train", tmp_path / "data")
    empty = type(rows)(texts={"a": [], "b": []}, labels=None, uids=[], skipped=0)
    store = tokenize_rows(task, empty, tokenizer.encode)
    assert len(store) == 0
    assert store.offsets.tolist() == [0]
