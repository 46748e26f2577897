from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtdnn_tf.data.mixture import in_file_order, plan_epoch, task_counts
from mtdnn_tf.experiment.settings import MixtureSettings

SIZES = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 60), min_size=1)
BATCH_BY = st.sampled_from(["example", "task"])


def examples(orders):
    """(task, index) of every example of an epoch, in order."""
    return [
        (int(t), int(i)) for order in orders for t, i in zip(order.task, order.index, strict=True)
    ]


@given(SIZES, BATCH_BY, st.integers(0, 2**32), st.integers(0, 3))
def test_proportional_sees_every_example_exactly_once_an_epoch(sizes, batch_by, seed, epoch):
    settings = MixtureSettings(batch_by=batch_by)
    seen = examples(plan_epoch(settings, sizes, seed, epoch, 4))
    assert sorted(seen) == [(t, i) for t, size in enumerate(sizes.values()) for i in range(size)]


@pytest.mark.parametrize(
    ("settings", "epoch", "expected"),
    [
        (dict(mode="proportional"), 0, {"a": 100, "b": 400, "c": 2500}),
        (dict(mode="uniform", examples_per_epoch=30), 0, {"a": 10, "b": 10, "c": 10}),
        # Square roots 10, 20, 50: eighths of 1, 2, 5.
        (dict(mode="temperature", examples_per_epoch=80), 0, {"a": 10, "b": 20, "c": 50}),
        (dict(mode="temperature", temperature=1, examples_per_epoch=30), 0, {"a": 1, "b": 4, "c": 25}),
        # 100/30, 400/30, 2500/30 of 31 are 1.03, 4.13, 25.83: the largest remainder gets the one left.
        (dict(mode="temperature", temperature=1, examples_per_epoch=31), 0, {"a": 1, "b": 4, "c": 26}),
        (dict(mode="weights", weights={"a": 1, "b": 1, "c": 2}, examples_per_epoch=40), 0,
         {"a": 10, "b": 10, "c": 20}),
        (dict(mode="annealed", annealed_floor=0, examples_per_epoch=30), 0, {"a": 1, "b": 4, "c": 25}),
        (dict(mode="annealed", annealed_floor=0, examples_per_epoch=80), 1, {"a": 10, "b": 20, "c": 50}),
        (dict(mode="annealed", annealed_floor=0, examples_per_epoch=30), 2, {"a": 10, "b": 10, "c": 10}),
        # A floor of 1/2: the exponent goes 1, 3/4, 1/2. 100, 400, 2500 to 3/4 are 31.6, 89.4, 353.6.
        (dict(mode="annealed", annealed_floor=0.5, examples_per_epoch=30), 0, {"a": 1, "b": 4, "c": 25}),
        (dict(mode="annealed", annealed_floor=0.5, examples_per_epoch=80), 1,
         {"a": 5, "b": 15, "c": 60}),
        (dict(mode="annealed", annealed_floor=0.5, examples_per_epoch=80), 2,
         {"a": 10, "b": 20, "c": 50}),
        (dict(mode="uniform", examples_per_epoch=31), 0, {"a": 11, "b": 10, "c": 10}),
        (dict(mode="uniform"), 0, {"a": 1000, "b": 1000, "c": 1000}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("batch_by", ["task", "example"])
def test_counts_worked_out_by_hand(settings, batch_by, epoch, expected):
    sizes = {"a": 100, "b": 400, "c": 2500}
    settings = MixtureSettings(**settings, batch_by=batch_by)
    assert task_counts(settings, sizes, epoch, epochs=3) == expected
    drawn = Counter(task for task, _ in examples(plan_epoch(settings, sizes, 0, epoch, 3)))
    assert drawn == dict(enumerate(expected.values()))


def test_a_run_of_one_epoch_is_annealed_from_its_start():
    settings = MixtureSettings(mode="annealed", annealed_floor=0.5, examples_per_epoch=30)
    sizes = {"a": 100, "b": 400, "c": 2500}
    assert task_counts(settings, sizes, 0, epochs=1) == {"a": 1, "b": 4, "c": 25}


@given(
    SIZES,
    st.sampled_from(["uniform", "temperature", "annealed", "weights"]),
    BATCH_BY,
    st.integers(1, 200),
    st.integers(0, 2**32),
    st.integers(1, 4),
)
def test_no_example_comes_again_before_all_of_its_task_were_seen(
    sizes, mode, batch_by, total, seed, epochs
):
    weights = {name: 1 + number for number, name in enumerate(sizes)} if mode == "weights" else {}
    settings = MixtureSettings(
        mode=mode, batch_by=batch_by, weights=weights, examples_per_epoch=total
    )
    seen = Counter()
    for epoch in range(epochs):
        order = examples(plan_epoch(settings, sizes, seed, epoch, epochs))
        assert len(order) == total
        seen.update(order)
    for task, size in enumerate(sizes.values()):
        times = [seen[task, index] for index in range(size)]
        assert max(times) - min(times) <= 1


@given(
    SIZES,
    st.sampled_from(["proportional", "uniform", "temperature", "annealed", "weights"]),
    BATCH_BY,
    st.integers(0, 2**32),
    st.integers(0, 3),
)
def test_the_order_depends_on_seed_and_epoch_alone(sizes, mode, batch_by, seed, epoch):
    weights = {name: 1 + number for number, name in enumerate(sizes)} if mode == "weights" else {}
    settings = MixtureSettings(mode=mode, batch_by=batch_by, weights=weights)
    first = examples(plan_epoch(settings, sizes, seed, epoch, 4))
    plan_epoch(settings, sizes, seed + 1, epoch, 4)
    np.random.seed(0)
    assert examples(plan_epoch(settings, sizes, seed, epoch, 4)) == first


def test_epochs_and_seeds_differ_in_order():
    settings, sizes = MixtureSettings(), {"a": 50, "b": 50}
    orders = [
        tuple(examples(plan_epoch(settings, sizes, seed, epoch, 2)))
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len(set(orders)) == 4


def test_batches_by_example_mix_the_tasks():
    (order,) = plan_epoch(MixtureSettings(), {"a": 500, "b": 500}, 0, 0, 1)
    halves = [np.mean(order.task[:500]), np.mean(order.task[500:])]
    assert halves == pytest.approx([0.5, 0.5], abs=0.1)


def test_batches_by_task_have_an_order_a_task():
    orders = plan_epoch(MixtureSettings(batch_by="task"), {"a": 5, "b": 7}, 0, 0, 1)
    assert [set(order.task) for order in orders] == [{0}, {1}]


def test_evaluation_goes_through_every_source_in_order():
    order = in_file_order([2, 0, 3])
    assert examples([order]) == [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)]
