"""Commands run in forked processes, and what they leave."""

import atexit
import json
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf


def run(
    module: str,
    *arguments: object,
    script: str | None = None,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str = "",
) -> subprocess.CompletedProcess:
    """Runs a command by its name, or a script, and returns what came of it.

    The process is forked from one that has imported TensorFlow, which saves seconds each time.
    """
    command = ["-c" if script else f"mtdnn_tf.binaries.{module}", *map(str, arguments)]
    if module in ("train", "distill"):
        command.insert(
            1, "--noreport"
        )  # It takes seconds, and tests/reporting/test_report.py looks at it.
    with tempfile.TemporaryDirectory() as folder:
        streams = [str(Path(folder) / name) for name in ("in", "out", "err")]
        Path(streams[0]).write_text(stdin)
        life = (command, script, env or {}, cwd, streams)
        process = FORK_SERVER.Process(target=in_fork, args=life)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")  # As the binaries do, before the import.
            process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, SECONDS)
        out, err = (Path(stream).read_text() for stream in streams[1:])
    return subprocess.CompletedProcess(command, process.exitcode, out, err)


SECONDS = 300  # Most that a process may take.


FORK_SERVER = multiprocessing.get_context("forkserver")


FORK_SERVER.set_forkserver_preload(["harness.runs", "mtdnn_tf.recipes.results"])


def in_fork(
    command: list[str],
    script: str | None,
    environment: dict[str, str],
    cwd: Path | None,
    streams: list[str],
) -> None:
    """The life of a forked process: what `python -m` or `python -c` would do."""
    for descriptor, stream in enumerate(streams):
        os.dup2(os.open(stream, os.O_RDWR | os.O_CREAT), descriptor)
    sys.stdin = os.fdopen(0, closefd=False)
    os.environ.update(environment)
    if cwd:
        os.chdir(cwd)
    sys.argv = command
    try:
        if script:
            exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()


def some(cases: Sequence[object], *chosen: object) -> list[object]:
    """Cases of a test: `make test` runs the chosen ones, `make check-long` the others."""
    return [c if c in chosen else pytest.param(c, marks=pytest.mark.long) for c in cases]


def peak_of(act: Callable[[], object]) -> int:
    """Most bytes that the process has more while `act` runs than before."""
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        pytest.skip("Linux alone tells the peak of a part of a process's life")

    def size(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])

    before = size("VmRSS")
    reset.write_text("5")
    act()
    return size("VmHWM") - before


def error_line(done: subprocess.CompletedProcess) -> str:
    """The one line that a binary ended with, after whatever it logged: no traceback, no second error."""
    assert "Traceback" not in done.stderr, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert lines == done.stderr.splitlines()[-1:], done.stderr
    return lines[0]


def numbers(record: dict) -> dict:
    """A record of metrics.jsonl without what depends on the clock."""
    return {k: v for k, v in record.items() if k not in ("seconds", "examples_per_second")}


NO_DROPOUT = {
    "encoder": {"hidden_dropout": 0.0, "attention_dropout": 0.0},
    "batch": {"rows": 4, "length": 64},
    "training": {"epochs": 2, "clip_norm": 0.3, "learning_rate": 0.001, "average_decay": 0.9},
}


NO_HEAD_DROPOUT = [f"--set=tasks.{name}.dropout=0" for name in ("mood", "same", "near", "answers")]


def records(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def assert_same_steps(one, two, clip_norm=0.3, ranking_bias_atol=1e-5):
    """Two runs had the same losses at each loop of steps, and end with the same model."""
    first, second = records(one), records(two)
    assert len(first) == len(second) > 5
    assert [r["step"] for r in first if r["kind"] == "train"][-1] >= 20
    norms = [record["gradient_norm"] for record in first if record["kind"] == "train"]
    assert min(norms) > clip_norm, "clipping must be active, or this test shows little"
    for a, b in zip(first, second, strict=True):
        assert a["step"] == b["step"]
        if a["kind"] == "train":
            assert a["examples"] == b["examples"]
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
            assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=1e-4)
    paths = [tf.train.latest_checkpoint(str(run / "checkpoints/last")) for run in (one, two)]
    names = [
        name
        for name, _ in tf.train.list_variables(paths[0])
        if name.startswith(("model/", "average/"))
    ]
    assert len(names) > 60
    for name in names:
        values = [tf.train.load_variable(p, name) for p in paths]
        atol = ranking_bias_atol if "head_answers" in name and "bias" in name else 1e-5
        np.testing.assert_allclose(*values, atol=atol, err_msg=name)
