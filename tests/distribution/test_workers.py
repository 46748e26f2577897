"""Two worker processes on one run directory: they train as one, and stop and go on together."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import yaml
from harness.kills import KILLER, TERMINATOR, assert_equal_runs
from harness.runs import NO_HEAD_DROPOUT, assert_same_steps, records, run
from harness.tasks import OFTEN, write_experiment

# Stands in for `mtdnn-train` on a host whose pretrained folder has other weights.
OTHER_WEIGHTS = """
from mtdnn_tf import pretrained
original = pretrained.load_encoder_weights
def load(encoder, folder):
    report = original(encoder, folder)
    encoder.weights[0].assign(encoder.weights[0] + 1e-3)
    return report
pretrained.load_encoder_weights = load
from mtdnn_tf.binaries.train import main
main()
"""
LOG_LOOP = "mtdnn_tf.training.loop:TrainingLoop._log_loop"
SECONDS = 240  # Most that two workers take, on two cores that others use as well.
# A script that imports TensorFlow before the binary does has to be as quiet as the binary.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]


class Ended:
    """What a worker process left: its exit code and what it wrote."""

    def __init__(self, code, folder, index):
        self.code = code
        self.out = (folder / f"{index}.out").read_text()
        self.err = (folder / f"{index}.err").read_text()

    @property
    def message(self):
        return self.err.strip().splitlines()[-1]


def run_workers(folder, *arguments, module="train", scripts=(), each=((), ())):
    """Runs two workers to their end, and kills what is left after some minutes.

    `scripts` maps a worker's index to the arguments of a script that stands in for the module;
    `each` has arguments of one worker alone.
    """
    scripts = dict(scripts)
    folder.mkdir(exist_ok=True)
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    processes = []
    try:
        for index in range(2):
            task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
            module_flags = ["-m", f"mtdnn_tf.binaries.{module}"]
            start = ["-c", *scripts[index]] if index in scripts else module_flags
            with (
                open(folder / f"{index}.out", "w") as out,
                open(folder / f"{index}.err", "w") as err,
            ):
                processes.append(
                    subprocess.Popen(
                        [sys.executable, *start, *arguments, *each[index]],
                        stdout=out,
                        stderr=err,
                        env={**os.environ, "TF_CONFIG": json.dumps(task), **QUIET},
                    )
                )
        deadline = time.monotonic() + SECONDS
        for process in processes:
            process.wait(timeout=max(0.1, deadline - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [Ended(process.returncode, folder, index) for index, process in enumerate(processes)]


def assert_done(workers):
    for worker in workers:
        assert worker.code == 0, worker.err
        assert "Traceback" not in worker.err


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("experiment"), training=OFTEN)


@pytest.fixture(scope="module")
def two_workers(one_replica, tmp_path_factory):
    """The run of two workers that is that of one replica."""
    path, _ = one_replica
    folder = tmp_path_factory.mktemp("two_workers")
    flags = [f"--config={path}", f"--workdir={folder / 'run'}", *NO_HEAD_DROPOUT]
    workers = run_workers(folder / "log", *flags)
    assert_done(workers)
    return folder / "run", workers


@pytest.fixture(scope="module")
def unbroken(experiment, tmp_path_factory):
    """A run of two workers, with dropout, from start to end."""
    folder = tmp_path_factory.mktemp("unbroken")
    workers = run_workers(folder / "log", f"--config={experiment}", f"--workdir={folder / 'run'}")
    assert_done(workers)
    return folder / "run", workers


@pytest.mark.long
def test_one_replica_equals_two_workers(one_replica, two_workers):
    assert_same_steps(one_replica[1], two_workers[0])


@pytest.mark.long
def test_the_chief_alone_reports_and_writes(two_workers):
    workdir, (chief, other) = two_workers
    assert "epoch 2: dev metrics" in chief.out
    assert "4 rows of 64 slots on 2 replicas" in chief.out
    assert other.out == ""
    steps = [record["step"] for record in records(workdir) if record["kind"] == "train"]
    assert steps == sorted(set(steps))
    assert len(list((workdir / "events" / "loss").glob("events*"))) == 1
    left = [p.name for p in workdir.rglob("*") if "temp" in p.name or "partial" in p.name]
    assert left == []


@pytest.mark.long
def test_two_workers_evaluate_to_the_same_numbers_as_one(unbroken, tmp_path):
    workdir, _ = unbroken
    reports = []
    for name in ("one", "two"):
        flags = [f"--workdir={workdir}", f"--output={tmp_path / name}.json"]
        flags.append(f"--predictions={tmp_path / name}")
        if name == "one":
            done = run("evaluate", *flags)
            assert done.returncode == 0, done.stderr
        else:
            workers = run_workers(tmp_path / "log", *flags, module="evaluate")
            assert_done(workers)
            assert workers[1].out == ""
        reports.append(json.loads((tmp_path / f"{name}.json").read_text()))
    one, two = reports
    assert one["examples"] == two["examples"]
    for task, splits in one["metrics"].items():
        assert splits["dev"] == pytest.approx(two["metrics"][task]["dev"], abs=1e-5)
    for path in (tmp_path / "one").iterdir():
        lines = [p.read_text().splitlines() for p in (path, tmp_path / "two" / path.name)]
        uids = [[line.split("\t")[0] for line in of] for of in lines]
        assert uids[0] == uids[1]
        assert len(uids[0]) == 33


@pytest.mark.long
@pytest.mark.parametrize(
    "victims", [(0,), pytest.param((1, 0), marks=pytest.mark.long)], ids=["the chief", "both"]
)
def test_told_to_stop_or_killed_all_stop_and_resume_bit_equal(
    victims, experiment, unbroken, tmp_path
):
    flags = [f"--config={experiment}", f"--workdir={tmp_path / 'run'}"]

    # The signal comes to one worker; both leave after the same step.
    terminate = [TERMINATOR, LOG_LOOP, "2", "before"]
    workers = run_workers(tmp_path / "log", *flags, scripts={1: terminate})
    for worker in workers:
        assert worker.code == 128 + signal.SIGTERM, worker.err
        assert worker.message.startswith("SIGTERM: saved at step 6 of 40 in ")

    # One is killed: the other ends with a message.
    for victim in victims:
        kill = [KILLER, LOG_LOOP, "3", "before"]
        workers = run_workers(tmp_path / "log", *flags, scripts={victim: kill})
        assert workers[victim].code == -signal.SIGKILL, workers[victim].err
        survivor = workers[1 - victim]
        assert survivor.code == 1, survivor.err
        assert "another worker is gone" in survivor.message
        assert "start all of them again" in survivor.message
        assert "Traceback" not in survivor.err

    workers = run_workers(tmp_path / "log", *flags)
    assert_done(workers)
    assert "going on from step " in workers[0].out
    assert_equal_runs(unbroken[0], tmp_path / "run")


@pytest.mark.long
def test_ctrl_c_ends_a_worker_that_waits_for_the_others(experiment, tmp_path):
    addresses = [f"localhost:{port}" for port in free_ports(2)]
    task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 0}}
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mtdnn_tf.binaries.train",
            f"--config={experiment}",
            "--workdir=unused",
        ],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TF_CONFIG": json.dumps(task)},
    )
    try:
        next(line for line in process.stderr if "waits for" in line)
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        assert abs(process.wait(timeout=20)) in (signal.SIGINT, 128 + signal.SIGINT)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_the_chief_labels_for_a_student_of_two_workers(experiment, unbroken, tmp_path):
    tree = yaml.safe_load(experiment.read_text())
    tree["training"]["epochs"] = 1
    tree["distillation"] = {"teachers": {"same": [str(unbroken[0])]}}
    config = tmp_path / "student.yaml"
    config.write_text(yaml.safe_dump(tree))
    flags = [f"--config={config}", f"--workdir={tmp_path / 'run'}"]

    # The signal comes to the chief while it labels, and both leave.
    save = "mtdnn_tf.distillation.soft_targets:_save"
    scripts = {0: [TERMINATOR, save, "1", "before"]}
    chief, other = run_workers(tmp_path / "log", *flags, scripts=scripts)
    for worker in (chief, other):
        assert worker.code == 128 + signal.SIGTERM, worker.err
        assert worker.message.startswith("SIGTERM: saved at step 0 of 20 in ")
    assert "same/train: labelled 96 of 96" in chief.out
    assert other.out == ""

    workers = run_workers(tmp_path / "log", *flags)
    assert_done(workers)
    assert "step 20/20" in workers[0].out


@pytest.mark.long
def test_workers_of_different_settings_are_told_so(experiment, tmp_path):
    flags = [f"--config={experiment}", f"--workdir={tmp_path / 'run'}"]
    each = ((), ("--set=training.learning_rate=0.1",))
    for worker in run_workers(tmp_path / "log", *flags, each=each):
        assert worker.code == 1
        assert worker.message == "error: the settings of worker 1 are not those of the chief"
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_workers_of_different_weights_are_told_so(experiment, tmp_path):
    flags = [f"--config={experiment}", f"--workdir={tmp_path / 'run'}"]
    for worker in run_workers(tmp_path / "log", *flags, scripts={1: [OTHER_WEIGHTS]}):
        assert worker.code == 1
        assert worker.message == "error: the weights of worker 1 are not those of the chief"


@pytest.mark.long
def test_a_workdir_that_is_not_shared_is_told(experiment, unbroken, tmp_path):
    each = ((f"--workdir={unbroken[0]}",), (f"--workdir={tmp_path / 'other'}",))
    for worker in run_workers(tmp_path / "log", f"--config={experiment}", each=each):
        assert worker.code == 1
        assert "must be one folder that all of them share" in worker.message
