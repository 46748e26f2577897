"""How long the binaries take to start.

    python benchmarks/startup.py

Prints the seconds that `--help` of each binary takes, and those from the start of `mtdnn-train` on
the demo's data to the end of its first step: once with no token store, and again with the stores that
the first start cached.
"""

import importlib.resources
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from mtdnn_tf.binaries import cli
from mtdnn_tf.errors import UserError

BINARIES = (
    *("train", "evaluate", "predict", "finetune", "distill", "export", "report", "demo"),
    *("ask", "serve", "server_config", "submit", "convert", "adapt"),
)


def _define_flags() -> None:
    flags.DEFINE_integer("repeats", 3, "Times that --help is asked for; the median counts.", 1)


def _help_seconds(binary: str, repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        command = [sys.executable, "-m", f"mtdnn_tf.binaries.{binary}", "--help"]
        done = subprocess.run(command, capture_output=True, text=True)
        seconds.append(time.perf_counter() - start)
        if "--help" not in done.stdout:
            raise UserError(f"{binary} --help printed no help: {done.stderr.strip()[-200:]}")
    return sorted(seconds)[repeats // 2]


def _first_step(folder: Path, number: int, config: Path) -> float:
    """Seconds until a training process has taken a step; the process is then ended."""
    command = [
        *(sys.executable, "-m", "mtdnn_tf.binaries.train", f"--config={config}"),
        *(f"--workdir={folder / f'run{number}'}", f"--data_dir={folder / 'glue'}"),
        "--set=training.steps_per_loop=1",
    ]
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"MTDNN_CACHE_DIR": str(folder / "cache")},
    )
    assert process.stdout is not None
    line = ""
    try:
        for line in process.stdout:
            if line.startswith("step "):
                return time.perf_counter() - start
    finally:
        process.kill()
        process.wait()
    raise UserError(f"the training took no step: {line.strip()}")


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    from mtdnn_tf.demo_data.benchmark import write_benchmark

    for binary in BINARIES:
        print(f"{binary:22s} --help {_help_seconds(binary, values.repeats):6.2f} s", flush=True)
    resource = importlib.resources.files("mtdnn_tf.demo_data") / "experiment.yaml"
    with (
        tempfile.TemporaryDirectory() as folder,
        importlib.resources.as_file(resource) as config,
    ):
        write_benchmark(Path(folder) / "glue")
        for number, title in enumerate(("nothing cached", "stores cached")):
            seconds = _first_step(Path(folder), number, config)
            print(f"train, first step, {title:14s} {seconds:5.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    cli.run(_main, _define_flags, __doc__ or "")
