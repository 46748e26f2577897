"""A random part of a task's training examples."""

import numpy as np
import pytest
from harness.batches import candidate_store, plain_store

from mtdnn_tf.data.splits import drawn_items
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.data import Subset
from mtdnn_tf.experiment.file import build_experiment
from mtdnn_tf.tasks import builtin_tasks

SST2 = builtin_tasks()["sst2"]


def store_of(count):
    store = plain_store(count, np.random.default_rng(0))
    store.labels[:] = np.arange(count) % 2
    return store


def draw_subset(task, whole, subset):
    return whole.subset(drawn_items(task, len(whole.item_offsets) - 1, subset))


def texts(store):
    return [
        (str(store.uids[i]), float(store.labels[i]), *store.token_ids[a:b], *store.type_ids[a:b])
        for i, (a, b) in enumerate(zip(store.offsets, store.offsets[1:], strict=False))
    ]


@pytest.mark.parametrize(("setting", "count"), [({"count": 7}, 7), ({"fraction": 0.1}, 10)])
def test_a_subset_holds_whole_examples_each_once(setting, count):
    whole = store_of(109)
    part = draw_subset(SST2, whole, Subset(**setting))
    assert len(part) == count == len(set(part.uids.tolist()))
    assert set(texts(part)) <= set(texts(whole))
    assert part.key != whole.key


def test_a_seed_draws_the_same_and_another_seed_something_else():
    draw = [draw_subset(SST2, store_of(60), Subset(count=20, seed=s)) for s in (1, 1, 2)]
    assert texts(draw[0]) == texts(draw[1])
    assert draw[0].key == draw[1].key
    assert texts(draw[0]) != texts(draw[2])


def test_all_of_it_is_the_whole_store():
    whole = store_of(12)
    assert texts(draw_subset(SST2, whole, Subset(fraction=1.0))) == texts(whole)


def test_the_candidates_of_a_query_stay_together():
    whole = candidate_store([2, 3, 4, 2, 5], np.random.default_rng(1))
    part = draw_subset(builtin_tasks()["qnli_ranking"], whole, Subset(count=3))
    sizes = np.diff(whole.item_offsets)
    assert len(part.item_offsets) == 4
    for group in range(3):
        members = np.flatnonzero(part.groups == group)
        old = {int(whole.groups[int(part.uids[i])]) for i in members}
        assert len(old) == 1
        assert len(members) == sizes[old.pop()]
    assert part.labels.sum() == 3


def test_a_fraction_is_what_is_written_and_not_the_float_next_to_it():
    whole = store_of(100)
    for part in range(10, 101):
        assert len(draw_subset(SST2, whole, Subset(fraction=part / 100))) == part


@pytest.mark.parametrize(
    ("subset", "message"),
    [
        (Subset(count=11), "data.subsets.sst2: 11 examples, expected 1 to 10"),
        (Subset(fraction=0.01), "data.subsets.sst2: 0 examples, expected 1 to 10"),
    ],
)
def test_a_subset_that_cannot_be_trained_on_is_told(subset, message):
    with pytest.raises(UserError, match=message):
        draw_subset(SST2, store_of(10), subset)


@pytest.mark.parametrize(
    ("subsets", "message"),
    [
        ({"sst2": {}}, "a subset has a count or a fraction"),
        ({"sst2": {"count": 3, "fraction": 0.5}}, "a subset has a count or a fraction"),
        ({"sst2": {"fraction": 1.5}}, "data.subsets.sst2.fraction"),
        ({"sst": {"count": 3}}, "data.subsets names an unknown task 'sst'; did you mean 'sst2'"),
    ],
)
def test_a_wrong_setting_is_told(subsets, message):
    with pytest.raises(UserError, match=message):
        build_experiment({"tasks": ["sst2"], "data": {"subsets": subsets}}, "test")
