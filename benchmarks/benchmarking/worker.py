"""One contender in a process of its own, which does its steps when it is told to.

    python -m benchmarking.worker CONTENDER FOLDER

FOLDER holds `workload.npz` and `settings.json`. The process answers on its standard output in lines of
JSON: first `{"first_step": seconds}`, counted from the process's start; then for each line `N` of its
standard input it takes N steps and answers `{"seconds", "examples", "tokens"}`; at the end of its
input, `{"peak_bytes", "device_peak_bytes"}`.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from benchmarking.workload import Workload


def _runner(contender: str, framework: str) -> Any:
    """The class that runs a contender; each needs libraries that others do not."""
    match contender.split()[0], framework:
        case "ours", "jax":
            from benchmarking import ours_jax as backend
        case "limit", "jax":
            from benchmarking import limit_jax as backend
        case "ours", _:
            from benchmarking import ours as backend
        case "torch", _:
            from benchmarking import torch_peer as backend
        case "model_garden", _:
            from benchmarking import model_garden_peer as backend
        case _:
            from benchmarking import limit as backend
    return backend.Runner


def main(contender: str, folder: Path) -> None:
    """Runs one contender; see the module."""
    began = time.perf_counter()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # What libraries print is no answer.
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    workload = Workload.load(folder / "workload.npz")
    runner = _runner(contender, settings["backend"])(contender, workload, settings)
    runner.steps(1)
    answers.write(json.dumps({"first_step": time.perf_counter() - began}) + "\n")
    for line in sys.stdin:
        start = time.perf_counter()
        examples, tokens = runner.steps(int(line))
        seconds = time.perf_counter() - start
        record = {"seconds": seconds, "examples": examples, "tokens": tokens}
        answers.write(json.dumps(record) + "\n")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    answers.write(json.dumps({"peak_bytes": peak, "device_peak_bytes": runner.device_peak()}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
