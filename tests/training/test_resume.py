"""A run that was cut off and started again is bit-equal to one that was not."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from harness.kills import KILLER, TERMINATOR, assert_equal_runs, everything
from harness.runs import error_line, run, some
from harness.tasks import OFTEN, write_experiment

from mtdnn_tf.runs.checkpoint_folder import CheckpointFolder
from mtdnn_tf.runs.directory import RunDirectory

# Writes down every number and folder that a checkpoint is saved to.
RECORDER = """
import sys
from mtdnn_tf.runs.checkpoint_folder import CheckpointFolder
log, sys.argv = sys.argv[1], ["train", *sys.argv[2:]]
original = CheckpointFolder.written
def written(self, number, *rest):
    with open(log, "a") as file:
        print(number, self.path, file=file)
    return original(self, number, *rest)
CheckpointFolder.written = written
from mtdnn_tf.binaries.train import main
main()
"""
PLACE = (
    "mtdnn_tf.runs.checkpoint_folder:CheckpointFolder._place"  # Data, index, list of a checkpoint.
)
KILLS = {
    "while the first checkpoint is listed": (PLACE, 3, "before"),
    "in the middle of an epoch": ("mtdnn_tf.runs.metrics_log:MetricsLog.append", 3, "before"),
    "between the files of a checkpoint": (PLACE, 5, "before"),
    "while a checkpoint's files are written": (
        "tensorflow.python.checkpoint.functional_saver:gen_io_ops.merge_v2_checkpoints", 2, "before"),
    "after an evaluation was logged, before it counts": (
        "mtdnn_tf.runs.checkpoints:Checkpoints.save_best", 1, "before"),
    "between the best and the last checkpoint": (
        "mtdnn_tf.training.run_log:write_predictions", 2, "after"),
}  # fmt: skip


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return write_experiment(
        tmp_path_factory.mktemp("experiment"), training=OFTEN | {"average_decay": 0.9}
    )


@pytest.fixture(scope="module")
def unbroken(experiment, tmp_path_factory):
    """A run from start to end in one process."""
    workdir = tmp_path_factory.mktemp("unbroken") / "run"
    done = run("train", f"--config={experiment}", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir


def test_the_state_compared_holds_what_could_differ(unbroken):
    _, variables, metrics, predictions = everything(unbroken)
    for part in ("seed_generator", "optimizer/", "state/step", "model/encoder", "model/head_same"):
        assert any(part in name for name in variables), part
    assert {record["kind"] for record in metrics} == {"train", "dev"}
    assert len(predictions) == 3


@pytest.mark.parametrize("moment", some(KILLS, "between the best and the last checkpoint"))
def test_killed_and_started_again_is_bit_equal(moment, experiment, unbroken, tmp_path):
    flags = [f"--config={experiment}", f"--workdir={tmp_path / 'run'}"]
    killed = run("", *KILLS[moment], *flags, script=KILLER)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = run("train", *flags)
    assert done.returncode == 0, done.stderr
    assert_equal_runs(unbroken, tmp_path / "run")
    left = [
        p.name for p in (tmp_path / "run").rglob("*") if "temp" in p.name or "partial" in p.name
    ]
    assert left == []


def newest(workdir, which):
    return CheckpointFolder(workdir / "checkpoints" / which).newest_first()[0]


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(experiment, unbroken, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(unbroken, workdir)
    (workdir / "checkpoints/last/checkpoint").unlink()
    path = newest(workdir, "last")
    (data,) = path.parent.glob(f"{path.name}.data-*")
    os.truncate(data, 1000)
    done = run("train", f"--config={experiment}", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "is taken in its place" in line]
    assert str(path) in line
    assert_equal_runs(unbroken, workdir)


def test_a_run_that_lost_its_best_checkpoint_says_so(experiment, unbroken, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(unbroken, workdir)
    newest(workdir, "best").with_suffix(".index").write_bytes(b"")
    flags = [f"--config={experiment}", f"--workdir={workdir}"]
    done = run("train", *flags)
    assert done.returncode == 0, done.stderr
    assert f"{workdir} has lost its best checkpoint" in done.stderr
    done = run("evaluate", f"--workdir={workdir}")
    assert done.returncode == 1
    assert str(newest(workdir, "best")) in error_line(done)


@pytest.mark.long
def test_killed_from_outside_again_and_again_is_bit_equal(experiment, unbroken, tmp_path):
    command = [sys.executable, "-m", "mtdnn_tf.binaries.train", f"--config={experiment}"]
    command.append(f"--workdir={tmp_path / 'run'}")
    rng = random.Random(0)
    kills = 0
    for _ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        seen = 0
        for line in process.stdout:  # Lines appear once training runs.
            seen += line.startswith(b"step ")
            if seen == 2:
                time.sleep(rng.random() * 0.3)
                process.send_signal(signal.SIGKILL)
                break
        kills += process.wait() == -signal.SIGKILL
        process.stdout.close()
    done = run("train", *command[3:])
    assert done.returncode == 0, done.stderr
    assert kills >= 2
    assert_equal_runs(unbroken, tmp_path / "run")


def test_sigterm_saves_and_leaves_with_a_message(experiment, unbroken, tmp_path):
    flags = [f"--config={experiment}", f"--workdir={tmp_path / 'run'}"]
    terminated = run("", *LOG_LOOP, 2, "after", *flags, script=TERMINATOR)
    assert terminated.returncode == 143
    message = terminated.stderr.strip().splitlines()[-1]
    assert message.startswith("SIGTERM: saved at step 6 of 40 in ")
    assert "the same command goes on from there" in message
    done = run("train", *flags)
    assert done.returncode == 0, done.stderr
    assert "going on from step 6" in done.stdout
    assert_equal_runs(unbroken, tmp_path / "run")


WRITE_CONFIG = ("mtdnn_tf.runs.directory:RunDirectory.write_experiment", 1, "before")
FIRST_LOOP = ("mtdnn_tf.runs.metrics_log:MetricsLog.append", 1, "before")
LOG_LOOP = ("mtdnn_tf.runs.metrics_log:MetricsLog.append",)
OPEN_DATA = "mtdnn_tf.training.run:open_run_data"


@pytest.mark.long
def test_sigterm_while_starting_is_heeded_as_well(experiment, unbroken, tmp_path):
    flags = [f"--config={experiment}", f"--workdir={tmp_path / 'run'}"]
    terminated = run("", OPEN_DATA, 1, "before", *flags, script=TERMINATOR)
    assert terminated.returncode == 143, terminated.stderr
    assert "SIGTERM: saved at step 0 of " in terminated.stderr.splitlines()[-1]
    assert run("train", *flags).returncode == 0
    assert_equal_runs(unbroken, tmp_path / "run")


@pytest.mark.long
def test_a_start_that_was_killed_leaves_nothing_to_a_run_of_another_seed(experiment, tmp_path):
    flags = [f"--config={experiment}", f"--workdir={tmp_path / 'run'}"]
    killed = run("", *WRITE_CONFIG, *flags, "--set=training.seed=9", script=KILLER)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    stopped = run("", *FIRST_LOOP, *flags, script=KILLER)
    assert stopped.returncode == -signal.SIGKILL, stopped.stderr
    fresh = run("", *FIRST_LOOP, flags[0], f"--workdir={tmp_path / 'fresh'}", script=KILLER)
    assert fresh.returncode == -signal.SIGKILL, fresh.stderr
    paths = [
        tf.train.latest_checkpoint(str(tmp_path / d / "checkpoints/last")) for d in ("run", "fresh")
    ]
    for name, _ in tf.train.list_variables(paths[0]):
        if "/.ATTRIBUTES/VARIABLE_VALUE" in name and not name.startswith("save_counter"):
            one, two = (tf.train.load_variable(path, name) for path in paths)
            np.testing.assert_array_equal(one, two, err_msg=name)


@pytest.mark.long
def test_no_checkpoint_is_ever_written_over(tmp_path, experiment):
    """A number stands for one state, so what is there already need not be written."""
    log = tmp_path / "saves"
    done = run(
        "", log, f"--config={experiment}", f"--workdir={tmp_path / 'run'}",
        "--set=training.checkpoint_every_steps=1", "--set=training.steps_per_loop=1",
        script=RECORDER,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    saves = log.read_text().splitlines()
    last = [line for line in saves if line.endswith("last")]
    assert len(last) > 40
    assert len(set(last)) == len(last)


def test_a_second_process_on_the_same_workdir_is_refused(experiment, tmp_path):
    with RunDirectory(tmp_path / "run").locked():
        second = run("train", f"--config={experiment}", f"--workdir={tmp_path / 'run'}")
    assert second.returncode == 1
    assert "is in use by another process" in error_line(second)


def test_a_finished_run_started_again_changes_nothing(experiment, unbroken):
    def contents():
        files = [p for p in unbroken.rglob("*") if p.is_file() and "events" not in p.parts]
        return {p: p.read_bytes() for p in files}

    before = contents()
    done = run("train", f"--config={experiment}", f"--workdir={unbroken}")
    assert done.returncode == 0
    assert "is trained already" in done.stdout
    assert contents() == before
