"""What a benchmark measured: the table, the ratios, the picture."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarking.workload import forward_flops
from mtdnn_tf.files import write_atomically

LIMITS = ("limit fp32", "limit bf16")


@dataclass(frozen=True)
class Result:
    """What was measured of one contender, medians over rounds.

    Attributes:
        examples: Examples a second.
        tokens: Real tokens a second.
        first_step: Seconds from the start of the process to the end of the first step.
        peak_bytes: Most main memory.
        device_peak_bytes: Most memory of the accelerator, if there is one.
    """

    examples: float
    tokens: float
    first_step: float
    peak_bytes: int
    device_peak_bytes: int | None


def rows(results: dict[str, Result], config: dict[str, int], lengths: Any) -> list[dict[str, Any]]:
    """The table: one row a contender, the fastest first.

    The share of the limit counts the products that are computed, for ours few of the last layer; that
    of the model all of a whole encoder.
    """

    def flops(name: str, of: Any, *, computed: bool = False) -> float:
        last_of_first = computed and name.startswith("ours")
        forward = forward_flops(config, of, last_of_first=last_of_first)
        return results[name].tokens * 3 * forward / of.sum()

    # The products of the limit are those of single tokens: there is no attention in them.
    limits = {name.split()[1]: flops(name, np.ones(1)) for name in LIMITS}
    rows = []
    for name, result in results.items():
        if name not in LIMITS:
            reached, limit = flops(name, lengths, computed=True), limits[name.split()[1]]
            row = {"contender": name, **asdict(result), "tflops": reached / 1e12}
            shares = {
                "share_of_limit": reached / limit,
                "share_of_model": flops(name, lengths) / limit,
            }
            rows.append(row | shares)
    rows.sort(key=lambda row: -row["tokens"])
    return rows


def _cells(row: dict[str, Any]) -> list[str]:
    """A line of the table."""
    gib = f"{row['peak_bytes'] / 2**30:.1f}"
    if row["device_peak_bytes"] is not None:
        gib += f" + {row['device_peak_bytes'] / 2**30:.1f}"
    return [
        row["contender"],
        f"{row['examples']:,.1f}",
        f"{row['tokens']:,.0f}",
        f"{row['tflops']:.3g}",
        f"{row['share_of_limit']:.0%}",
        f"{row['share_of_model']:.0%}",
        gib,
        f"{row['first_step']:.0f}",
    ]


HEADER = (
    "contender",
    "examples/s",
    "real tokens/s",
    "TFLOP/s",
    "of limit",
    "of the model",
    "GiB",
    "first step, s",
)


def show(rows: list[dict[str, Any]]) -> None:
    """Prints the table, and how many times as fast ours is as each peer."""
    table = Table(title="training step", title_justify="left")
    for number, name in enumerate(HEADER):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*_cells(row))
    Console().print(table)
    for ratio in _ratios(rows):
        print("{ours} is {times:.2f} times {peer}".format(**ratio))


def _ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Real tokens/s of our fastest contender with dropout over those of each peer.

    Tokens, since the batches of a round are not those of all: some have more long examples.
    """
    packed = [row for row in rows if "packed" in row["contender"]]
    ours = next((row for row in packed if "no-dropout" not in row["contender"]), None)
    if ours is None:
        return []
    return [
        {
            "ours": ours["contender"],
            "peer": row["contender"],
            "times": ours["tokens"] / row["tokens"],
        }
        for row in rows
        if not row["contender"].startswith("ours") or "packed" not in row["contender"]
    ]


def write(rows: list[dict[str, Any]], settings: dict[str, Any], folder: Path) -> None:
    """Writes `training.json`, `training.md` and `training.png`."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    record = {"settings": settings, "contenders": rows, "ratios": _ratios(rows)}
    write_atomically(folder / "training.json", json.dumps(record, indent=2) + "\n")
    lines = [HEADER, ["---", *["---:"] * (len(HEADER) - 1)], *map(_cells, rows)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    write_atomically(folder / "training.md", table)
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(rows) + 1), layout="constrained")
    names = [row["contender"] for row in reversed(rows)]
    colours = ["C0" if name.startswith("ours") else "C7" for name in names]
    bars = axes.barh(names, [row["tokens"] for row in reversed(rows)], color=colours)
    axes.bar_label(bars, fmt="%.0f", padding=3)
    axes.set_xlabel("real tokens/s")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "training.png", dpi=120)
    pyplot.close(figure)
