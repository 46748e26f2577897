"""Many clients at once against a local server, and a new version in the middle of it.

    python benchmarks/load.py --model_base_path=saved_models/glue --seconds=120

Starts `mtdnn-serve` on loopback with the newest version of the model. --clients
threads ask it for examples of all tasks, over gRPC, until --seconds are over; at half time the same
model appears as a new version. Prints the requests, the failures, the latency, and how the server's
memory grew, and fails if a request failed or the memory grew by more than --most_growth.
"""

import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from mtdnn_tf.binaries import cli
from mtdnn_tf.errors import UserError

MODEL = "model"
TEXTS = (
    "A moving film.",
    "The committee has not said when the report on the bridge is to be published.",
    "He said it was late; nobody had asked, and the lamp in the hall was still burning when the "
    "last of the guests had found a coat.",
    "What is the longest river?",
)
MOST_SECONDS = 300  # That a version may take to be loaded, beside all clients.
SETTLED = 0.25  # The part of the time after which memory is first looked at.


def _define_flags() -> None:
    cli.define_path("model_base_path", None, "The model's folder.", required=True)
    flags.DEFINE_integer("clients", 32, "Clients that ask at once.", 1, 256)
    flags.DEFINE_float("seconds", 120, "How long they ask.", 1, 600)
    flags.DEFINE_integer("most_requests", 100_000, "Requests after which they stop.", 1)
    flags.DEFINE_float("most_growth", 5, "Most that memory may grow, in percent.")


class _Clients:
    """Threads that ask until they are told to stop, and what came of it."""

    def __init__(
        self, address: str, tasks: Sequence[tuple[str, bool]], count: int, most: int
    ) -> None:
        self.seconds: list[float] = []
        self.errors: list[str] = []
        self.answered = [0] * count
        self._address, self._tasks, self._most = address, tasks, most // count
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(number,), daemon=True)
            for number in range(count)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, seed: int) -> None:
        from mtdnn_tf.serving.client import Client

        draw = random.Random(seed)
        # One attempt: a retry would hide a failure.
        with Client(self._address, MODEL, attempts=1, timeout=60, concurrency=1) as client:
            while not self._stopped.is_set() and self.answered[seed] < self._most:
                task, is_pair = draw.choice(self._tasks)
                texts = [draw.choice(TEXTS) for _ in range(draw.choice([1, 1, 1, 4]))]
                examples = [(text, draw.choice(TEXTS)) for text in texts] if is_pair else texts
                start = time.perf_counter()
                try:
                    answers = client.predict(task, examples)
                    if len(answers) != len(examples):
                        raise ValueError(f"{len(answers)} answers to {len(examples)} examples")
                except Exception as error:  # Whatever it is, it is a request that failed.
                    self.errors.append(f"{type(error).__name__}: {error}")
                self.seconds.append(time.perf_counter() - start)
                self.answered[seed] += 1


def _resident_mib(process: subprocess.Popen) -> float:
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _start(folder: Path) -> tuple[subprocess.Popen, str]:
    ports = _free_port(), _free_port()
    command = [
        *(sys.executable, "-m", "mtdnn_tf.binaries.serve"),
        *(f"--model_base_path={folder}", f"--model_name={MODEL}"),
        *(f"--port={ports[0]}", f"--rest_api_port={ports[1]}"),
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL), f"127.0.0.1:{ports[0]}"


def _wait(address: str, process: subprocess.Popen, states: dict[int, str]) -> None:
    """Waits until the versions are in these states."""
    from mtdnn_tf.serving.client import Client

    deadline = time.monotonic() + MOST_SECONDS
    with Client(address, MODEL, attempts=1, timeout=60) as client:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if client.status() == states:
                    return
            except UserError:
                pass  # It has not started to answer yet.
            time.sleep(0.5)
    raise UserError(f"the versions were not {states} within {MOST_SECONDS} seconds")


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    from mtdnn_tf.serving.client import Client
    from mtdnn_tf.serving.versions import versions

    base = Path(values.model_base_path).resolve()
    found = versions(base)
    if not found:
        raise UserError(f"--model_base_path: {base} holds no version of a model")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "1").symlink_to(base / str(found[-1]))
        process, address = _start(Path(folder))
        try:
            _wait(address, process, {1: "AVAILABLE"})
            with Client(address, MODEL) as client:
                signatures = client.signatures()
                tasks = [
                    (name, len(inputs) == 2)
                    for name, inputs in signatures.items()
                    if f"{name}_tokens" in signatures
                ]
                clients = _Clients(address, tasks, values.clients, values.most_requests)
                clients.start()
                time.sleep(SETTLED * values.seconds)
                before = _resident_mib(process)
                time.sleep((0.5 - SETTLED) * values.seconds)
                (Path(folder) / "2").symlink_to(base / str(found[-1]))
                appeared = time.monotonic()
                _wait(address, process, {2: "AVAILABLE", 1: "END"})
                swapped = time.monotonic() - appeared
                time.sleep(max(0.5 * values.seconds - swapped, 0))
                clients.stop()
            after = _resident_mib(process)
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    growth = 100 * (after / before - 1)
    milliseconds = 1000 * np.array(clients.seconds)
    p50, p99 = np.percentile(milliseconds, [50, 99])
    print(f"{values.clients} clients, {len(tasks)} tasks, {values.seconds:g} seconds")
    print(f"{len(milliseconds):,} requests, {len(clients.errors)} failed")
    print(f"latency p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    print(f"memory {before:.0f} MiB, {after:.0f} MiB at the end: {growth:+.1f} %")
    print(f"the new version was served, and the old one given up, after {swapped:.0f} seconds")
    if not all(clients.answered):
        raise UserError(f"{clients.answered.count(0)} clients had no answer at all")
    if clients.errors:
        raise UserError(f"{len(clients.errors)} requests failed, the first: {clients.errors[0]}")
    if growth > values.most_growth:
        raise UserError(f"memory grew by {growth:.1f} %; expected {values.most_growth:g} at most")
    return 0


def main() -> None:
    """Entry point."""
    cli.run(_main, _define_flags, __doc__ or "")


if __name__ == "__main__":
    main()
