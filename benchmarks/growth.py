"""How a training step, and the plan of an epoch, grow with each of their sizes.

    python benchmarks/growth.py --output=growth

One size at a time is changed from a base: six layers of 384, bfloat16, dropout 0.1, packed batches of 8
rows of 128 slots, one task, one replica, made-up lengths. The points of a curve are processes of their
own and take steps in turns. Printed, and written as `growth.json` and `growth.png`, are examples/s,
tokens/s, the peak of memory and the seconds to the first step; for the plan of an epoch its seconds, its
memory, and the seconds until the first batch is there.

The points of `length` all have 1,024 slots a batch, those of `replicas` as many rows in all. In `tasks`
the examples are divided among as many heads.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from absl import flags

from mtdnn_tf.binaries import cli
from mtdnn_tf.errors import UserError
from mtdnn_tf.files import write_atomically

CONTENDER = "ours bf16 packed"
EXAMPLES, VOCABULARY = 12_800, 30522
BASE = {"rows": 8, "length": 128, "layers": 6, "tasks": 1, "replicas": 1}
CURVES: dict[str, list[int]] = {
    "rows": [8, 16, 32, 64, 128],
    "length": [64, 128, 256, 512],
    "layers": [2, 4, 6, 12],
    "tasks": [1, 4, 16, 64],
    "replicas": [1, 2],
}
SLOTS = BASE["rows"] * BASE["length"]
PLANNING = "plan"
PLANNED = [10_000, 100_000, 1_000_000, 10_000_000]


def _define_flags() -> None:
    cli.define_path("output", None, "Folder for the results; by default they are printed.")
    flags.DEFINE_list("curves", [*CURVES, PLANNING], "Which curves.")
    flags.DEFINE_integer("rounds", 3, "Times that each point is measured.", lower_bound=1)
    flags.DEFINE_float("seconds", 3.0, "About how long a point's round is.", lower_bound=0.1)


def _settings(point: dict[str, int]) -> dict[str, Any]:
    """What `benchmarking.ours` is told."""
    config = {
        "vocab_size": VOCABULARY,
        "num_layers": point["layers"],
        "hidden_size": 384,
        "num_heads": 12,
        "intermediate_size": 1536,
    }
    rows = SLOTS // point["length"] if point["length"] != BASE["length"] else point["rows"]
    settings = {"encoder": None, "config": config, "examples": 32, "dropout": 0.1, "threads": 0}
    settings |= {"turn": 3, "backend": "tensorflow"}
    sizes = {"rows": rows, "tasks": point["tasks"], "replicas": point["replicas"]}
    return settings | sizes


def _training_curve(name: str, rounds: int, seconds: float) -> list[dict[str, float]]:
    """The points of a curve of training steps."""
    from benchmarking.contender import Contender, take_turns
    from benchmarking.workload import Workload

    with tempfile.TemporaryDirectory() as parent:
        contenders = []
        for size in CURVES[name]:
            point = BASE | {name: size}
            folder = Path(parent) / str(size)
            folder.mkdir()
            Workload.made_up(EXAMPLES, VOCABULARY, point["length"]).save(folder / "workload.npz")
            (folder / "settings.json").write_text(json.dumps(_settings(point)), encoding="utf-8")
            contenders.append(Contender(CONTENDER, folder, sys.executable))
        take_turns(contenders, rounds, seconds)
        results = [contender.end() for contender in contenders]
    return [
        {
            "size": size,
            "examples_per_second": result.examples,
            "tokens_per_second": result.tokens,
            "gib": result.peak_bytes / 2**30,
            "first_step": result.first_step,
        }
        for size, result in zip(CURVES[name], results, strict=True)
    ]


def _planning_curve() -> list[dict[str, float]]:
    """The points of the plan, each in a process of its own."""
    points = []
    for size in PLANNED:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarking.planning", str(size)],
            cwd=Path(__file__).parent,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise UserError(f"planning {size} examples: {done.stderr.strip().splitlines()[-1]}")
        record = json.loads(done.stdout)
        record["gib"] = record.pop("peak_bytes") / 2**30
        points.append({"size": size, **record})
    return points


def _show(name: str, points: list[dict[str, float]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=name, title_justify="left")
    for number, column in enumerate(points[0]):
        table.add_column(column.replace("_", " "), justify="right" if number else "left")
    for point in points:
        table.add_row(f"{point['size']:,}", *(f"{v:,.4g}" for k, v in point.items() if k != "size"))
    Console().print(table)


def _draw(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    """A panel a curve: speed on the left axis, memory on the right."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    columns = min(3, len(curves))
    lines = -(-len(curves) // columns)
    figure, panels = pyplot.subplots(
        lines, columns, figsize=(3.6 * columns, 2.8 * lines), layout="constrained", squeeze=False
    )
    for panel in panels.flat[len(curves) :]:
        panel.set_axis_off()
    for panel, (name, points) in zip(panels.flat, curves.items(), strict=False):
        sizes = [point["size"] for point in points]
        what = "seconds" if name == PLANNING else "tokens_per_second"
        panel.plot(sizes, [point[what] for point in points], "o-", color="C0")
        panel.set_xscale("log")
        panel.set_xticks(sizes, [f"{size:,}" if size < 10_000 else f"{size:.0e}" for size in sizes])
        panel.minorticks_off()
        panel.set_ylim(bottom=0)
        panel.set_xlabel("examples planned" if name == PLANNING else name)
        panel.set_ylabel(what.replace("_per_second", "/s"), color="C0")
        memory = panel.twinx()
        memory.plot(sizes, [point["gib"] for point in points], "s--", color="C1")
        memory.set_ylim(bottom=0)
        memory.set_ylabel("GiB", color="C1")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    for name in values.curves:
        if name not in (*CURVES, PLANNING):
            raise UserError(f"--curves: {name!r} is none of {', '.join([*CURVES, PLANNING])}")
    curves = {}
    for name in values.curves:
        if name == PLANNING:
            curves[name] = _planning_curve()
        else:
            curves[name] = _training_curve(name, values.rounds, values.seconds)
        _show(name, curves[name])
    if values.output:
        folder = Path(values.output)
        folder.mkdir(parents=True, exist_ok=True)
        record = {"base": BASE, "curves": curves}
        write_atomically(folder / "growth.json", json.dumps(record, indent=2) + "\n")
        _draw(curves, folder / "growth.png")
    return 0


if __name__ == "__main__":
    cli.run(_main, _define_flags, __doc__ or "")
