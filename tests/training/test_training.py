"""What a training run shows and leaves."""

import json
import os
import re
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import tensorflow as tf
from harness.runs import run
from harness.tasks import write_experiment
from tensorflow.python.framework.config import is_op_determinism_enabled

from mtdnn_tf.distribution.signals import Interrupted
from mtdnn_tf.experiment.file import load_experiment
from mtdnn_tf.training.loop import train


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    path = write_experiment(
        folder,
        training={
            "epochs": 12,
            "learning_rate": 0.01,
            "optimizer": "adamw",
            "loss_reduction": "example",
        },
        encoder={"hidden_dropout": 0.0, "attention_dropout": 0.0, "pooling": "mean"},
    )
    balance = "--set=tasks.near.loss_weight=0.05"  # Squared error would drown the other losses.
    done = run("train", f"--config={path}", f"--workdir={folder / 'run'}", balance)
    assert done.returncode == 0, done.stderr
    return folder / "run", done


def records(workdir, kind):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [r for r in map(json.loads, lines) if r["kind"] == kind]


def test_a_run_learns_what_can_be_learnt(finished):
    dev = records(finished[0], "dev")
    assert dev[-1]["metrics"]["mood"]["dev"]["accuracy"] > 0.9
    assert dev[0]["metrics"]["mood"]["dev"]["accuracy"] < 0.7


def test_plain_lines_show_mix_loss_speed_fill_and_time_left(finished):
    lines = [line for line in finished[1].stdout.splitlines() if line.startswith("step ")]
    assert len(lines) > 10
    for line in lines:
        assert re.match(r"step \d+/\d+ epoch \d+ \| ", line)
        assert re.search(r"\d+ examples/s, \d+\.\d% filled \| (\d+:\d\d|-:--) left$", line)
    assert re.search(r"mood \d+\.\d{3} \(\d+%\)", lines[0])


def test_nothing_but_ours_is_printed(finished):
    assert "train | step" not in finished[1].stdout + finished[1].stderr
    assert "Traceback" not in finished[1].stderr


def test_losses_of_every_loop_and_metrics_of_every_epoch_are_written(finished):
    train, dev = records(finished[0], "train"), records(finished[0], "dev")
    assert [record["epoch"] for record in dev] == list(range(1, 13))
    assert dev[-1]["step"] == train[-1]["step"]
    seen = sum(sum(record["examples"].values()) for record in train)
    assert seen == 12 * 3 * 96
    assert all(0 < record["fill"] <= 1 for record in train)
    rates = [record["learning_rate"] for record in train]
    assert max(rates) == pytest.approx(0.01, rel=0.1)
    assert rates[-1] < 0.001


def test_tensorboard_has_the_same_numbers_a_task(finished):
    events = sorted((finished[0] / "events" / "loss").glob("events*"))
    tags = {}
    for event in tf.compat.v1.train.summary_iterator(str(events[0])):
        for value in event.summary.value:
            tags.setdefault(value.tag, []).append(float(tf.make_ndarray(value.tensor)))
    assert set(tags) == {"mood", "near", "same"}
    written = [r["loss"]["mood"] for r in records(finished[0], "train") if "mood" in r["loss"]]
    assert tags["mood"] == pytest.approx(written)
    assert list((finished[0] / "events" / "dev").rglob("events*"))


def test_a_task_may_be_called_as_a_number_of_the_run(finished):
    """What is in TensorBoard beside the tasks is in no folder of theirs."""
    found = {path.name for path in (finished[0] / "events" / "dev").iterdir()}
    assert found == {"mood", "near", "same"}
    (events,) = (finished[0] / "events").glob("events*")
    tags = {
        v.tag for e in tf.compat.v1.train.summary_iterator(str(events)) for v in e.summary.value
    }
    assert "dev_mean" in tags


def test_the_best_checkpoint_is_that_of_the_best_mean(finished):
    dev = records(finished[0], "dev")
    best = max(dev, key=lambda record: record["mean"])
    path = tf.train.latest_checkpoint(str(finished[0] / "checkpoints/best"))
    assert path.endswith(f"ckpt-{best['step']}")


def test_the_last_checkpoints_are_kept_and_no_more(finished):
    state = tf.train.get_checkpoint_state(str(finished[0] / "checkpoints/last"))
    assert len(state.all_model_checkpoint_paths) == 2


def test_a_thread_can_train_be_stopped_and_leaves_the_process_as_it_was(tmp_path):
    experiment = load_experiment(write_experiment(tmp_path, training={"epochs": 1}))

    def process():
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        return handlers, dict(os.environ), is_op_determinism_enabled(), sys.stdout

    def in_a_thread(stop):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(train, experiment, tmp_path / "run", stop=stop).exception()

    before = process()
    told = in_a_thread([signal.SIGTERM])
    assert isinstance(told, Interrupted)
    assert "SIGTERM: saved at step 0 of " in str(told)
    assert in_a_thread([]) is None
    assert process() == before
    assert len(records(tmp_path / "run", "dev")) == 1


def test_bfloat16_trains_with_float32_variables(tmp_path):
    path = write_experiment(tmp_path, training={"epochs": 1, "precision": "mixed_bfloat16"})
    done = run("train", f"--config={path}", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    checkpoint = tf.train.latest_checkpoint(str(tmp_path / "run/checkpoints/last"))
    kinds = tf.train.load_checkpoint(checkpoint).get_variable_to_dtype_map()
    kernels = [
        kind for name, kind in kinds.items() if name.startswith("model/") and "kernel" in name
    ]
    assert len(kernels) >= 10
    assert set(kernels) == {tf.float32}
    assert records(tmp_path / "run", "train")[0]["loss"]["mood"] < 2
