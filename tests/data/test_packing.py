import os
from pathlib import Path

import numpy as np
import pytest
from harness.batches import store
from hypothesis import given
from hypothesis import strategies as st

from mtdnn_tf.data.batch import BatchShape, build_batch, example_weights
from mtdnn_tf.data.mixture import in_file_order
from mtdnn_tf.data.packing import pack_epoch, pack_window
from mtdnn_tf.experiment.sections import section_lengths

ROW_LENGTHS = st.one_of(st.integers(24, 64), st.sampled_from([128, 200, 256, 512]))
LENGTHS = st.lists(st.lists(st.integers(3, 24), min_size=1, max_size=40), min_size=1, max_size=3)


def pack(stores, rows, length, **kwargs):
    return pack_epoch(
        [in_file_order([len(s) for s in stores])],
        [s.lengths for s in stores],
        rows=rows,
        row_length=length,
        most_in_row=BatchShape(rows, length).most_in_row,
        **kwargs,
    )


@given(LENGTHS, st.integers(1, 4), ROW_LENGTHS)
def test_every_example_is_packed_once_and_no_row_is_over_its_length(lengths, rows, row_length):
    stores = [store(of_task) for of_task in lengths]
    packed = pack(stores, rows, row_length)
    seen = sorted(zip(packed.task.tolist(), packed.index.tolist(), strict=True))
    assert seen == [(t, i) for t, of_task in enumerate(lengths) for i in range(len(of_task))]
    for start, end in zip(packed.row_starts, packed.row_starts[1:], strict=False):
        members = zip(packed.task[start:end], packed.index[start:end], strict=True)
        assert sum(lengths[t][i] for t, i in members) <= row_length
    assert (len(packed.row_starts) - 1) == len(packed) * rows


@given(LENGTHS, st.integers(1, 4), ROW_LENGTHS)
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
    assert [(row.items, row.slots) for row in rows] == [([1], [0]), ([2, 0], [0, 7]), ([3], [0])]


def test_what_fits_half_a_row_shares_one():
    rows = pack_window(np.array([70, 40, 24, 64, 20, 50]), row_length=128, most=32)
    # 70 opens a row, 64 fills a half, 50 fits behind the 70, 40 opens a half, which 24 fills. 20 opens
    # another, which does not get full.
    assert [(row.items, row.slots) for row in rows] == [
        ([0, 5], [0, 70]),
        ([3, 1, 2], [0, 64, 104]),
        ([4], [0]),
    ]


def test_halves_that_do_not_get_full_are_packed_again():
    rows = pack_window(np.array([50, 50, 28]), row_length=128, most=32)
    assert [(row.items, row.slots) for row in rows] == [([0, 1, 2], [0, 50, 100])]


@given(st.lists(st.integers(1, 256), min_size=1, max_size=200), st.integers(1, 5))
def test_in_a_batch_rows_of_long_sections_come_first(lengths, rows):
    of_task = store(lengths)
    packed = pack([of_task], rows, 256)
    for number in range(len(packed)):
        ids = build_batch([of_task], packed, number, BatchShape(rows, 256))["example_ids"]
        sections = [min(s for s in section_lengths(256) if not crosses(row, s)) for row in ids]
        assert sections == sorted(sections, reverse=True)


def crosses(example_ids, section):
    """Whether an example of a row crosses the end of a section."""
    ends = range(section, len(example_ids), section)
    return any(example_ids[end - 1] == example_ids[end] > 0 for end in ends)


def test_most_rows_of_short_examples_are_divided_into_sections():
    lengths = np.clip(np.random.default_rng(0).lognormal(3.07, 0.65, 5000), 5, 256).astype(int)
    of_task = store(lengths)
    packed = pack([of_task], 8, 256)
    batches = [build_batch([of_task], packed, n, BatchShape(8, 256)) for n in range(len(packed))]
    ids = np.concatenate([batch["example_ids"] for batch in batches])
    assert np.mean([crosses(row, 128) for row in ids]) < 0.05
    assert np.mean([crosses(row, 64) for row in ids]) < 0.35


@pytest.mark.parametrize(
    ("row_length", "sections"),
    [(512, [512, 256, 128, 64]), (160, [160, 80]), (100, [100]), (1, [1])],
)
def test_sections_are_halves_of_at_least_64_slots(row_length, sections):
    assert section_lengths(row_length) == sections


def test_a_row_holds_no_more_examples_than_it_may():
    packed = pack_window(np.full(9, 2), row_length=100, most=4)
    assert [len(row.items) for row in packed] == [4, 4, 1]
    packed = pack_window(np.full(9, 2), row_length=128, most=4)
    assert [len(row.items) for row in packed] == [4, 4, 1]


def test_loss_weights_make_the_mean_over_a_tasks_examples_in_the_global_batch():
    stores = [store([4, 4, 4]), store([4])]
    packed = pack(stores, 2, 24)
    by_task = example_weights(stores, packed, 0, [1.0, 0.5], "task")
    np.testing.assert_allclose(by_task, [1 / 3, 0.5])
    by_example = example_weights(stores, packed, 0, [1.0, 0.5], "example")
    np.testing.assert_allclose(by_example, [1 / 4, 0.5 / 4])


@pytest.mark.long
@pytest.mark.parametrize("batch_by", ["example", "task"])
def test_rows_are_filled_to_98_percent_on_glue(batch_by, minilm_dir, glue_dir, tmp_path_factory):
    from mtdnn_tf.data.plan import TrainingPlan
    from mtdnn_tf.data.splits import open_split
    from mtdnn_tf.experiment.file import build_experiment
    from mtdnn_tf.tokenizers.wordpiece import BertTokenizer

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
