"""What the contenders of `benchmarks/training.py` are given."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SIZE, TURN = 16, 3


@pytest.fixture
def workload(monkeypatch):
    """Examples of three tasks, of short, middling and long texts."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from benchmarking.workload import Workload

    made_up = Workload.made_up(4000, vocab_size=2000, max_length=128)
    thirds = np.digitize(made_up.lengths, np.quantile(made_up.lengths, [1 / 3, 2 / 3]))
    return replace(made_up, tasks=thirds.astype(np.int32))


@pytest.mark.parametrize("grouped", [False, True])
def test_padded_batches_of_a_turn_are_as_long_as_those_of_an_epoch(workload, grouped):
    batches = list(islice(workload.batches(SIZE, TURN, grouped=grouped), 1 + 20 * TURN))[1:]
    assert all(len(set(workload.tasks[batch])) == 1 for batch in batches)
    tokens = np.array([workload.lengths[batch].sum() for batch in batches])
    of_turns = tokens.reshape(-1, TURN).mean(1)
    np.testing.assert_allclose(of_turns, SIZE * workload.lengths.mean(), rtol=0.05)
    slots = SIZE * np.array([workload.lengths[batch].max() for batch in batches])
    of_turns = slots.reshape(-1, TURN).mean(1)
    np.testing.assert_allclose(of_turns, of_turns.mean(), rtol=0.05)
    turns = np.array(batches).reshape(20, -1)
    assert len({tuple(turn) for turn in turns}) == 20  # Shapes are new, as in training.


def test_all_who_pad_alike_get_the_same_batches(workload):
    several = (islice(workload.batches(SIZE, TURN), 10) for _ in range(2))
    for one, other in zip(*several, strict=True):
        np.testing.assert_array_equal(one, other)


def test_grouped_batches_have_fewer_empty_slots(workload):
    def slots(grouped):
        batches = islice(workload.batches(SIZE, TURN, grouped=grouped), 60)
        return sum(workload.lengths[batch].max() for batch in batches)

    assert slots(True) < 0.9 * slots(False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=9))
def test_a_last_layer_of_first_tokens_has_their_products_and_the_keys_and_values_of_all(
    monkeypatch, lengths
):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from benchmarking.workload import forward_flops

    sizes = {"num_layers": 3, "hidden_size": 8, "intermediate_size": 32}
    lengths = np.array(lengths)
    whole = forward_flops(sizes, lengths)
    left_out = 2 * (2 * 8 * 8 + 2 * 8 * 32) * (lengths - 1) + 4 * 8 * (lengths**2 - lengths)
    assert forward_flops(sizes, lengths, last_of_first=True) == whole - left_out.sum()
