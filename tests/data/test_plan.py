"""Every batch of a run, known by its step."""

import subprocess
import sys
from itertools import islice

import numpy as np
import pytest
from harness.batches import epochs_of, members, store
from harness.tasks import write_tasks
from hypothesis import given, settings
from hypothesis import strategies as st

from mtdnn_tf.data.plan import TrainingPlan
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.file import build_experiment


@pytest.fixture(scope="module")
def make_plan(tmp_path_factory):
    tasks = write_tasks(tmp_path_factory.mktemp("plan"))

    def make(seed=0, batch_by="example", replicas=1, rows=4, reduction="task", pieces=1, **mixture):
        experiment = build_experiment(
            {
                "tasks": tasks,
                "data": {"max_length": 24},
                "batch": {"rows": rows, "length": 32, "pieces": pieces},
                "mixture": {"batch_by": batch_by, **mixture},
                "training": {"epochs": 2, "seed": seed, "loss_reduction": reduction},
            },
            "test",
        )
        rng = np.random.default_rng(0)
        stores = {
            name: store(rng.integers(3, 25, n)) for name, n in zip(tasks, (40, 7, 25), strict=True)
        }
        return TrainingPlan(experiment, stores, replicas)

    return make


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["example", "task"]), st.sampled_from([1, 2]))
def test_every_example_comes_exactly_once_an_epoch(make_plan, seed, batch_by, replicas):
    everything = [(t, i) for t, n in enumerate((40, 7, 25)) for i in range(n)]
    first, second = epochs_of(make_plan(seed, batch_by, replicas))
    assert sorted(first) == sorted(second) == everything
    assert first != second


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(0, 20), st.sampled_from(["example", "task"]))
def test_the_batches_from_a_step_on_are_those_of_the_whole_run(make_plan, seed, step, batch_by):
    whole = list(make_plan(seed, batch_by).batches(0))
    step = min(step, len(whole))
    tail = list(make_plan(seed, batch_by).batches(step))
    assert len(tail) == len(whole) - step
    for one, two in zip(whole[step:], tail, strict=True):
        for name, array in one.items():
            np.testing.assert_array_equal(array, two[name])


def test_batches_by_task_hold_one_task_and_come_in_mixed_order(make_plan):
    plan = make_plan(batch_by="task", rows=1)
    tasks = [
        set(batch["task"][batch["index"] >= 0])
        for batch in islice(plan.batches(0), plan.total_steps)
    ]
    assert all(len(of_batch) == 1 for of_batch in tasks)
    order = [of_batch.pop() for of_batch in tasks[: plan.epoch_ends[0]]]
    assert order != sorted(order)


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_the_weights_of_a_tasks_examples_sum_to_its_loss_weight_over_replicas(make_plan, replicas):
    plan = make_plan(replicas=replicas)
    batches = list(islice(plan.batches(0), replicas))
    for task in range(3):
        weights = [b["weight"][(b["task"] == task) & (b["index"] >= 0)].sum() for b in batches]
        present = any(((b["task"] == task) & (b["index"] >= 0)).any() for b in batches)
        assert sum(weights) == pytest.approx(1.0 if present else 0.0)


@pytest.mark.parametrize(("replicas", "pieces"), [(1, 2), (1, 4), (2, 2)])
def test_pieces_are_a_stack_of_parts_of_the_same_batch(make_plan, replicas, pieces):
    whole = list(make_plan().batches(0))
    stacked = list(make_plan(replicas=replicas, pieces=pieces).batches(0))
    assert len(stacked) == len(whole) * replicas
    for step, batch in enumerate(whole):
        parts = stacked[step * replicas : (step + 1) * replicas]
        assert all(p["token_ids"].shape == (pieces, 4 // replicas // pieces, 32) for p in parts)
        rows = np.concatenate([p["token_ids"].reshape(-1, 32) for p in parts])
        np.testing.assert_array_equal(rows, batch["token_ids"])
        assert [m for p in parts for m in members(p)] == members(batch)
        weights = np.concatenate([p["weight"][p["index"] >= 0] for p in parts])
        np.testing.assert_array_equal(weights, batch["weight"][batch["index"] >= 0])


def test_the_workers_shares_are_the_whole(make_plan):
    plan = make_plan(replicas=4)
    whole = list(plan.batches(3))
    shares = [plan.batches(3, replicas) for replicas in (range(2), range(2, 4))]
    together = [
        batch for step in zip(*[s for s in shares for _ in range(2)], strict=True) for batch in step
    ]
    assert len(together) == len(whole)
    for one, two in zip(whole, together, strict=True):
        np.testing.assert_array_equal(one["token_ids"], two["token_ids"])


def test_rows_must_divide_among_replicas(make_plan):
    with pytest.raises(UserError, match=r"batch.rows 4 cannot be divided among 3 replicas"):
        make_plan(replicas=3)


@pytest.mark.parametrize(
    ("total", "told", "warned"),
    [
        (None, "mood 40 (0.6 times an epoch), same 7 (3.43 times an epoch)", "(same 3.43 times)"),
        (14, "mood 40 (0.12 times an epoch), same 7 (0.71 times an epoch)", None),
        (400, "mood 40 (3.35 times an epoch)", "(mood 3.35 times, same 19 times, near 5.32 times)"),
    ],
)
def test_how_often_an_epoch_sees_each_task_is_told(make_plan, total, told, warned):
    first, *more = make_plan(mode="uniform", examples_per_epoch=total).describe().splitlines()
    assert told in first
    assert len(more) == (warned is not None)
    assert not warned or warned in more[0]


def test_tasks_that_an_epoch_sees_once_are_told_by_their_size_alone(make_plan):
    assert "3 tasks, mood 40, same 7, near 25 training examples" in make_plan().describe()


def test_plan_and_batches_need_no_tensorflow():
    """They are made alike where the model runs under another of Keras' backends."""
    code = "import sys; sys.modules['tensorflow'] = None; import mtdnn_tf.data.plan"
    subprocess.run([sys.executable, "-c", code], check=True)
