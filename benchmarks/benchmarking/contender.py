"""A contender of a benchmark: a process that takes steps in its turn."""

import json
import os
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarking.results import Result
from mtdnn_tf.errors import UserError


class Contender:
    """A process that takes steps when told to.

    Args:
        name: Its name, as `benchmarking.worker` takes it.
        folder: Of the workload and the settings; it takes as many steps at a time as they have as
            `turn`, or a multiple.
        python: The interpreter.

    Attributes:
        first_step: Seconds from the start of the process to the end of the first step.

    Raises:
        UserError: The process ended, with the last line that it wrote.
    """

    def __init__(self, name: str, folder: Path, python: str) -> None:
        self.name = name
        self._turn = json.loads((folder / "settings.json").read_text(encoding="utf-8"))["turn"]
        self._log = folder / f"{name.replace(' ', '_')}.log"
        environment = os.environ | {
            "TF_CPP_MIN_LOG_LEVEL": "2",
            # All contenders are on an accelerator at once.
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        here = str(Path(__file__).parents[1])
        environment["PYTHONPATH"] = os.pathsep.join(
            [here, *filter(None, [environment.get("PYTHONPATH")])]
        )
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [python, "-m", "benchmarking.worker", name, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        self.first_step = self._answer()["first_step"]
        self._rates: list[tuple[float, float]] = []

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
            raise UserError(f"{self.name}: the process ended: {''.join(last)}")
        return json.loads(line)

    def warm_up(self, seconds: float) -> None:
        """Takes some steps, and finds how many take so many seconds."""
        self._take(self._turn)  # Shapes are new to caches and allocators.
        turns = seconds / self._take(self._turn)["seconds"]
        self._steps = self._turn * max(1, round(turns))

    def take_round(self) -> None:
        """Takes the steps of a round."""
        answer = self._take(self._steps)
        seconds = answer["seconds"]
        self._rates.append((answer["examples"] / seconds, answer["tokens"] / seconds))

    def _take(self, steps: int) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> Result:
        """Ends the process; returns the medians of its rounds."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        peak = self._answer()
        self._process.wait()
        examples, tokens = (statistics.median(rates) for rates in zip(*self._rates, strict=True))
        return Result(examples, tokens, self.first_step, **peak)


def take_turns(contenders: Sequence[Contender], rounds: int, seconds: float) -> None:
    """Lets all take steps, one at a time, in each of some rounds.

    Args:
        contenders: Who takes part.
        rounds: How often each has a turn.
        seconds: About how long a turn is.
    """
    for contender in contenders:
        contender.warm_up(seconds)
    for number in range(rounds):
        for contender in contenders:
            contender.take_round()
        print(f"round {number + 1} of {rounds}", flush=True)
