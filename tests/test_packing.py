import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtdnn_tf.data.batch import BatchShape, build_batch, example_weights
from mtdnn_tf.data.mixture import in_file_order
from mtdnn_tf.data.packing import pack_epoch, pack_window
from mtdnn_tf.data.token_store import TokenStore

LENGTHS = st.lists(st.lists(st.integers(3, 24), min_size=1, max_size=40), min_size=1, max_size=3)


def store(lengths, first_id=1):
    """A store of examples whose tokens are all different."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.arange(first_id, first_id + offsets[-1], dtype=np.int32)
    return TokenStore(
        token_ids=ids,
        type_ids=ids % 2,
        offsets=offsets,
        labels=np.arange(len(lengths), dtype=np.float32),
        uids=np.arange(len(lengths)).astype(str),
    )


def pack(stores, rows, length, **kwargs):
    return pack_epoch(
        [in_file_order([len(s) for s in stores])],
        [s.lengths for s in stores],
        rows=rows,
        row_length=length,
        most_in_row=BatchShape(rows, length).most_in_row,
        **kwargs,
    )


@given(LENGTHS, st.integers(1, 4), st.integers(24, 64))
def test_every_example_is_packed_once_and_no_row_is_over_its_length(lengths, rows, row_length):
    stores = [store(of_task) for of_task in lengths]
    packed = pack(stores, rows, row_length)
    seen = sorted(zip(packed.task.tolist(), packed.index.tolist(), strict=True))
    assert seen == [(t, i) for t, of_task in enumerate(lengths) for i in range(len(of_task))]
    for start, end in zip(packed.row_starts, packed.row_starts[1:], strict=False):
        members = zip(packed.task[start:end], packed.index[start:end], strict=True)
        assert sum(lengths[t][i] for t, i in members) <= row_length
    assert (len(packed.row_starts) - 1) == len(packed) * rows


@given(LENGTHS, st.integers(1, 4), st.integers(24, 64))
def test_a_batch_holds_its_examples_unchanged(lengths, rows, row_length):
    stores = [store(of_task, 1000 * t + 1) for t, of_task in enumerate(lengths)]
    packed, shape = pack(stores, rows, row_length), BatchShape(rows, row_length)
    found = []
    for number in range(len(packed)):
        batch = build_batch(stores, packed, number, shape)
        flat = {
            n: batch[n].ravel() for n in ("token_ids", "type_ids", "position_ids", "example_ids")
        }
        used = 0
        for slot, task, index, label, weight in zip(
            *(batch[n] for n in ("first_slot", "task", "index", "label", "weight")), strict=True
        ):
            assert weight == (index >= 0)
            if index < 0:
                continue
            here = stores[task]
            length = here.lengths[index]
            part = slice(slot, slot + length)
            assert slot // row_length == (slot + length - 1) // row_length
            start, end = here.offsets[index], here.offsets[index + 1]
            np.testing.assert_array_equal(flat["token_ids"][part], here.token_ids[start:end])
            np.testing.assert_array_equal(flat["type_ids"][part], here.type_ids[start:end])
            np.testing.assert_array_equal(flat["position_ids"][part], np.arange(length))
            assert len(set(flat["example_ids"][part])) == 1
            assert flat["example_ids"][slot] > 0
            assert label == here.labels[index]
            used += length
            found.append((task, index))
        assert np.count_nonzero(flat["example_ids"]) == used
        assert np.count_nonzero(flat["token_ids"]) == used
    assert len(found) == len(set(found)) == sum(map(len, lengths))


@given(LENGTHS, st.integers(24, 64))
def test_a_batch_built_twice_is_equal(lengths, row_length):
    stores = [store(of_task) for of_task in lengths]
    shape = BatchShape(2, row_length)
    for number in range(len(pack(stores, 2, row_length))):
        one, two = (
            build_batch(stores, pack(stores, 2, row_length), number, shape) for _ in range(2)
        )
        for name, array in one.items():
            np.testing.assert_array_equal(array, two[name])


@given(LENGTHS)
def test_replicas_share_a_global_batch(lengths):
    stores = [store(of_task) for of_task in lengths]
    packed = pack(stores, 4, 32)
    whole = build_batch(stores, packed, 0, BatchShape(4, 32))
    parts = [build_batch(stores, packed, 0, BatchShape(2, 32), replica) for replica in range(2)]
    for name in ("token_ids", "type_ids", "position_ids", "example_ids"):
        np.testing.assert_array_equal(whole[name], np.concatenate([p[name] for p in parts]))
    members = [(t, i) for p in parts for t, i in zip(p["task"], p["index"], strict=True) if i >= 0]
    assert members == [(t, i) for t, i in zip(whole["task"], whole["index"], strict=True) if i >= 0]


def test_rows_are_packed_by_best_fit():
    rows = pack_window(np.array([5, 10, 7, 3]), row_length=12, most=12)
    # 10 opens a row, 7 another, 5 fits the second exactly, 3 opens a third.
    assert rows == [[1], [2, 0], [3]]


def test_a_row_holds_no_more_examples_than_it_may():
    assert [len(row) for row in pack_window(np.full(9, 2), row_length=100, most=4)] == [4, 4, 1]


def test_loss_weights_make_the_mean_over_a_tasks_examples_in_the_global_batch():
    stores = [store([4, 4, 4]), store([4])]
    packed = pack(stores, 2, 24)
    by_task = example_weights(stores, packed, 0, [1.0, 0.5], "task")
    np.testing.assert_allclose(by_task, [1 / 3, 0.5])
    by_example = example_weights(stores, packed, 0, [1.0, 0.5], "example")
    np.testing.assert_allclose(by_example, [1 / 4, 0.5 / 4])


@pytest.mark.parametrize("batch_by", ["example", "task"])
def test_rows_are_filled_to_98_percent_on_glue(batch_by, minilm_dir, glue_dir, tmp_path_factory):
    from mtdnn_tf.data.plan import TrainingPlan
    from mtdnn_tf.data.splits import open_split
    from mtdnn_tf.data.tokenizer import BertTokenizer
    from mtdnn_tf.experiment_file import build_experiment

    tree = {
        "tasks": ["cola", "sst2", "mrpc", "stsb", "rte", "qnli", "mnli"],
        "mixture": {"batch_by": batch_by},
        "training": {"epochs": 1},
        "data": {"data_dir": str(glue_dir), "cache_dir": str(cache_of(tmp_path_factory))},
    }
    experiment = build_experiment(tree, "test")
    tokenizer = BertTokenizer.from_file(minilm_dir / "vocab.txt", max_length=128)
    stores = {
        name: open_split(task, "train", experiment.data, tokenizer)
        for name, task in experiment.tasks.items()
    }
    plan = TrainingPlan(experiment, stores)
    tokens = sum(int(s.lengths.sum()) for s in stores.values())
    assert sum(len(s) for s in stores.values()) > 120_000
    assert tokens / (plan.total_steps * 8 * 128) >= 0.98


def cache_of(tmp_path_factory) -> Path:
    """One token cache for the session."""
    return Path(os.environ.get("MTDNN_CACHE_DIR") or tmp_path_factory.getbasetemp() / "tokens")
