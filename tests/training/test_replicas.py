"""Two replicas in one process take the same steps as one: gradients are summed, then clipped."""

import json

import pytest
from harness.kills import KILLER, assert_equal_runs
from harness.runs import (
    NO_DROPOUT,
    NO_HEAD_DROPOUT,
    assert_same_steps,
    error_line,
    run,
)
from harness.tasks import OFTEN, write_all_kinds, write_experiment

DROPOUT = """
import keras, numpy as np, tensorflow as tf
from mtdnn_tf.training.setup import give_replicas_own_dropout
from mtdnn_tf.distribution.strategy import build_strategy

def masks(strategy):
    with strategy.scope():
        model = keras.Sequential([keras.Input([64]), keras.layers.Dropout(0.5, seed=3)])
    give_replicas_own_dropout(strategy, model)
    step = tf.function(lambda: strategy.run(lambda: model(tf.ones([1, 64]), training=True)))
    return [mask.numpy() for mask in strategy.experimental_local_results(step())]

strategy = build_strategy("mirrored", ["CPU:0", "CPU:1"])
first, second = masks(strategy)
(alone,) = masks(tf.distribute.get_strategy())
np.testing.assert_array_equal(first, alone)
assert (first != second).any()
"""
TWO = "--devices=CPU:0,CPU:1"
# Without the sigmoid the bias of a ranking head has no gradient, and Adam makes much of rounding errors.
NO_HEAD_DROPOUT += ["--set=tasks.same.head=san", "--set=tasks.answers.ranking.activation=sigmoid"]
NO_HEAD_DROPOUT += ['--set=tasks.same.san={"steps": 2, "prediction_dropout": 0}']


def test_one_replica_equals_two(one_replica, tmp_path):
    path, one = one_replica
    flags = [f"--config={path}", f"--workdir={tmp_path / 'two'}", TWO, *NO_HEAD_DROPOUT]
    two = run("train", *flags)
    assert two.returncode == 0, two.stderr
    assert "4 rows of 64 slots on 2 replicas" in two.stdout
    assert_same_steps(one, tmp_path / "two")


@pytest.mark.long
def test_one_replica_equals_two_where_attention_divides_rows_into_sections(tmp_path):
    path = write_all_kinds(tmp_path, **NO_DROPOUT | {"batch": {"rows": 2, "length": 128}})
    for name, devices in (("1", "--devices=CPU:0"), ("2", TWO)):
        flags = [f"--config={path}", f"--workdir={tmp_path / name}", devices, *NO_HEAD_DROPOUT]
        done = run("train", *flags)
        assert done.returncode == 0, done.stderr
    assert_same_steps(tmp_path / "1", tmp_path / "2")


@pytest.mark.long
def test_one_replica_equals_two_in_batches_of_one_task(tmp_path):
    path = write_all_kinds(tmp_path, mixture={"batch_by": "task"}, **NO_DROPOUT)
    clip = 0.05  # The ranking task's gradients alone are small.
    for name, devices in (("1", "--devices=CPU:0"), ("2", TWO)):
        flags = [f"--config={path}", f"--workdir={tmp_path / name}", devices, *NO_HEAD_DROPOUT]
        done = run("train", *flags, f"--set=training.clip_norm={clip}")
        assert done.returncode == 0, done.stderr
    assert_same_steps(tmp_path / "1", tmp_path / "2", clip)


@pytest.mark.long
@pytest.mark.parametrize("devices", ["--devices=CPU:0", TWO])
def test_a_step_compiled_by_xla_is_the_same_step(devices, one_replica, tmp_path):
    """What a TPU needs as well: static shapes, and no strings on the device."""
    path, one = one_replica
    flags = [f"--config={path}", f"--workdir={tmp_path / 'xla'}", devices, *NO_HEAD_DROPOUT]
    dump = tmp_path / "dump"
    env = {"XLA_FLAGS": f"--xla_dump_to={dump}"}
    compiled = run("train", *flags, "--set=training.xla=on", env=env)
    assert compiled.returncode == 0, compiled.stderr
    options = [path.read_text() for path in dump.glob("*debug_options")]
    assert options, "XLA was not asked"
    # With deterministic kernels XLA cannot search for one of Triton's that fits, on a GPU.
    assert all("xla_gpu_enable_triton_gemm: false" in text for text in options)
    # The bias of a ranking head has next to no gradient: of that, rounding is a large part.
    assert_same_steps(one, tmp_path / "xla", ranking_bias_atol=5e-5)


@pytest.mark.long
def test_two_replicas_evaluate_to_the_same_numbers_as_one(one_replica, tmp_path):
    reports = {}
    for devices in ("CPU:0", "CPU:0,CPU:1"):
        output = tmp_path / f"{devices}.json"
        flags = [f"--workdir={one_replica[1]}", f"--devices={devices}", f"--output={output}"]
        done = run("evaluate", *flags)
        assert done.returncode == 0, done.stderr
        reports[devices] = json.loads(output.read_text())
    one, two = reports.values()
    assert one["examples"] == two["examples"]
    for task, splits in one["metrics"].items():
        assert splits["dev"] == pytest.approx(two["metrics"][task]["dev"], abs=1e-5)


def test_each_replica_drops_other_entries_and_the_first_what_it_would_alone():
    done = run("", script=DROPOUT)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_two_replicas_resume_bit_equal(tmp_path):
    path = write_experiment(tmp_path, training=OFTEN)
    flags = [f"--config={path}", TWO]
    unbroken = run("train", *flags, f"--workdir={tmp_path / 'unbroken'}")
    assert unbroken.returncode == 0, unbroken.stderr
    flags.append(f"--workdir={tmp_path / 'broken'}")
    place = "mtdnn_tf.runs.metrics_log:MetricsLog.append"
    killed = run("", place, 5, "before", *flags, script=KILLER)
    assert killed.returncode == -9, killed.stderr
    done = run("train", *flags)
    assert done.returncode == 0, done.stderr
    assert "going on from step " in done.stdout
    assert_equal_runs(tmp_path / "unbroken", tmp_path / "broken")


def test_rows_that_cannot_be_divided_are_told_in_one_line(tmp_path):
    path = write_experiment(tmp_path, batch={"rows": 3})
    done = run("train", f"--config={path}", f"--workdir={tmp_path / 'run'}", TWO)
    assert done.returncode == 1
    message = error_line(done)
    assert message == "error: batch.rows 3 cannot be divided among 2 replicas"
    assert not (tmp_path / "run").exists()
