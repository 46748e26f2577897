"""Exported models beside ONNX Runtime and PyTorch: the same weights, the same sentences, raw text in.

    python tools/benchmark_serving.py --workdir=runs/glue --data_dir=glue_data

Needs `pip install -c requirements.lock -e .[bench]`. Exports the run in each precision, frozen and not,
and asks all in turns for dev examples of its tasks over sentences and pairs: mixed batches of
--batch_size, and one at a time. The peers are the encoder in transformers, padded to the longest of a
batch, with the heads of the run; ONNX Runtime runs the graph that PyTorch exports. Printed are medians,
their ratio to ONNX Runtime, and the largest difference of a probability (or score) from PyTorch; then
what `all_single` costs beside one task.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from mtdnn_tf import cli

Row = tuple[str, str, str]  # Task, first text, second text ("" for tasks over one).
Answer = Callable[[Sequence[Row]], np.ndarray]
EXPORTS = {
    "float32": {"precision": "float32"},
    "float32, frozen": {"precision": "float32", "freeze": True},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16, frozen": {"precision": "bfloat16", "freeze": True},
    "int8": {"precision": "int8"},
}
ONNX, TORCH = "ONNX Runtime, float32", "PyTorch, float32"


def _define_flags() -> None:
    flags.DEFINE_string("workdir", None, "The run; heads must be linear.", required=True)
    flags.DEFINE_string("data_dir", None, "Folder of the dev files.", required=True)
    flags.DEFINE_integer("batch_size", 32, "Rows of a batch.", lower_bound=2)
    flags.DEFINE_integer("batches", 8, "Batches of a round.", lower_bound=1)
    flags.DEFINE_integer("rounds", 5, "Times that each is measured.", lower_bound=1)
    flags.DEFINE_integer("threads", 0, "Threads of each; 0 is one for each core.")


def _rows(loaded: Any, data_dir: Path, count: int) -> list[Row]:
    """Dev examples, as many of each task as of the others, in random order."""
    from mtdnn_tf.data.sources import read_split

    draw, rows = random.Random(0), []
    tasks = list(loaded.tasks.values())
    for task in tasks:
        split = next(name for name in task.splits if name.startswith("dev"))
        texts = list(read_split(task, split, data_dir).texts.values())
        examples = list(
            zip(texts[0], texts[1] if len(texts) == 2 else [""] * len(texts[0]), strict=True)
        )
        chosen = draw.sample(examples, -(-count // len(tasks)))
        rows += [(task.name, *example) for example in chosen]
    draw.shuffle(rows)
    return rows[:count]


def _served(folder: Path) -> Answer:
    from mtdnn_tf.serving.servable import Servable

    servable = Servable(folder)

    def answer(rows: Sequence[Row]) -> np.ndarray:
        columns = zip(*rows, strict=True)
        inputs = {
            name: np.array([text.encode() for text in column], object)
            for name, column in zip(("task", "sentence1", "sentence2"), columns, strict=True)
        }
        found = servable.run("serving_default", inputs, ["score", "label", "probabilities"])
        return np.where(found["label"] == b"", found["score"], found["probabilities"][:, 0])

    return answer


def _measure(
    answers: dict[str, Answer], batches: Sequence[Sequence[Row]], rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Runs all in turns.

    Returns:
        Median seconds of a batch, and the largest difference from PyTorch, both by name.
    """
    wanted = [answers[TORCH](batch) for batch in batches]
    difference = {
        name: max(
            float(np.abs(answer(batch) - right).max())
            for batch, right in zip(batches, wanted, strict=True)
        )
        for name, answer in answers.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in answers}
    for _ in range(rounds):
        for name, answer in answers.items():
            start = time.perf_counter()
            for batch in batches:
                answer(batch)
            seconds[name].append((time.perf_counter() - start) / len(batches))
    return {name: statistics.median(values) for name, values in seconds.items()}, difference


def _all_single(folder: Path, rows: Sequence[Row], rounds: int) -> tuple[float, float, int]:
    """Median seconds of one task, and of all tasks over one text, for the same batch; how many."""
    from mtdnn_tf.serving.servable import Servable

    servable = Servable(folder)
    texts = np.array([row[1].encode() for row in rows], object)
    outputs = servable.signatures["all_single"].outputs
    tasks = sorted({name.removesuffix("_label") for name in outputs if name.endswith("_label")})
    (field,) = servable.signatures[tasks[0]].inputs
    seconds: dict[str, list[float]] = {tasks[0]: [], "all_single": []}
    for number in range(2 * rounds + 1):
        for signature, inputs in ((tasks[0], {field: texts}), ("all_single", {"sentence1": texts})):
            start = time.perf_counter()
            servable.run(signature, inputs)
            if number:  # The first builds the graph.
                seconds[signature].append(time.perf_counter() - start)
    one, every = (statistics.median(values) for values in seconds.values())
    return one, every, len(tasks)


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    import tensorflow as tf
    from benchmarking.transformers_peers import TransformersPeers

    from mtdnn_tf.loading import load
    from mtdnn_tf.serving.saved_model import export

    tf.get_logger().setLevel("ERROR")
    if values.threads:
        tf.config.threading.set_intra_op_parallelism_threads(values.threads)
    loaded = load(values.workdir)
    size = values.batch_size
    rows = _rows(loaded, Path(values.data_dir), size * values.batches)
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peers = TransformersPeers(loaded, values.workdir, folder, values.threads)
        folders = {
            name: export(values.workdir, folder / "models", **settings)
            for name, settings in EXPORTS.items()
        }
        answers = {ONNX: peers.onnx(), TORCH: peers.torch}
        answers |= {name: _served(path) for name, path in folders.items()}
        for title, chosen in (
            (f"batches of {size}", batches),
            ("one at a time", [[row] for row in rows[: 2 * size]]),
        ):
            seconds, difference = _measure(answers, chosen, values.rounds)
            count = len(chosen[0])
            print(f"{title:24s} examples/s    ms  / ONNX Runtime  largest difference")
            for name in answers:
                print(
                    f"{name:24s} {count / seconds[name]:10,.0f} {1000 * seconds[name]:5.1f} "
                    f"{seconds[ONNX] / seconds[name]:15.2f} {difference[name]:19.1e}"
                )
        one, every, tasks = _all_single(folders["float32"], batches[0], values.rounds)
        print(f"all_single, {tasks} tasks, takes {every / one:.3f} times as long as one of them")
    return 0


if __name__ == "__main__":
    cli.run(_main, _define_flags, __doc__ or "")
