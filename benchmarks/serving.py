"""Exported models beside ONNX Runtime and PyTorch: the same weights, the same sentences, raw text in.

    python benchmarks/serving.py --workdir=runs/glue --data_dir=glue_data

Needs `pip install -c requirements.lock -e .[bench]`. Exports the run in each precision, frozen and not,
and asks all in turns for dev examples of its tasks over sentences and pairs: mixed batches of
--batch_size, and one at a time. Each export is served by a process of its own: oneDNN keeps the
kernels of so many shapes in a process, and makes others anew. The peers are the encoder in
transformers, padded to the longest of a batch, with the heads of the run; ONNX Runtime runs the graph
that PyTorch exports. Printed are medians, their ratio to ONNX Runtime, and the largest difference of a
probability, and of a score, from PyTorch;
then what `all_single` over --heads linear heads costs beside one of them, in memory.
TensorFlow takes its memory from the system, as in `mtdnn-serve`.
"""

import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from mtdnn_tf.binaries import cli
from mtdnn_tf.errors import UserError

Row = tuple[str, str, str]  # Task, first text, second text ("" for tasks over one).
Batches = Sequence[Sequence[Row]]
Answer = Callable[[Sequence[Row]], np.ndarray]  # First probability, or score, of each row.
Asked = Callable[[Batches], tuple[np.ndarray, float]]  # All answers, and seconds a batch.
EXPORTS = {
    "float32": {"precision": "float32"},
    "float32, frozen": {"precision": "float32", "freeze": True},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16, frozen": {"precision": "bfloat16", "freeze": True},
    "int8": {"precision": "int8"},
}
HEADS_ROUNDS = 4  # A batch in place of all: more often.
ONNX, TORCH = "ONNX Runtime, float32", "PyTorch, float32"


def _define_flags() -> None:
    cli.define_path("workdir", None, "The run; heads must be linear.", required=True)
    cli.define_path("data_dir", None, "Folder of the dev files.", required=True)
    flags.DEFINE_integer("batch_size", 32, "Rows of a batch.", lower_bound=2)
    flags.DEFINE_integer("batches", 8, "Batches of a round.", lower_bound=1)
    flags.DEFINE_integer("rounds", 5, "Times that each is measured.", lower_bound=1)
    flags.DEFINE_integer("heads", 16, "Heads of `all_single`.", lower_bound=2)
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
    from mtdnn_tf.serving.local.servable import Servable

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


def _timed(answer: Answer, batches: Batches) -> tuple[np.ndarray, float]:
    start = time.perf_counter()
    answers = [answer(batch) for batch in batches]
    return np.concatenate(answers), (time.perf_counter() - start) / len(batches)


def _serve(folder: Path) -> None:
    global _answer  # Of this process, which serves nothing else.
    _answer = _served(folder)


def _ask_served(batches: Batches) -> tuple[np.ndarray, float]:
    return _timed(_answer, batches)


def _apart(folder: Path, stack: ExitStack) -> Asked:
    """An exported model in a process of its own, which ends with the stack."""
    spawn = multiprocessing.get_context("spawn")
    process = ProcessPoolExecutor(1, spawn, _serve, (folder,))
    stack.enter_context(process)
    return lambda batches: process.submit(_ask_served, batches).result()


def _measure(
    contenders: dict[str, Asked], batches: Batches, with_score: Sequence[str], rounds: int
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Runs all in turns.

    Args:
        contenders: What is asked, by its name.
        batches: What it is asked.
        with_score: Tasks that are answered with a score.
        rounds: How often.

    Returns:
        Median seconds of a batch, and the largest difference from PyTorch of a probability and of a
        score, both by name.
    """
    is_score = np.array([row[0] in with_score for batch in batches for row in batch])
    wanted, _ = contenders[TORCH](batches)
    difference = {}
    for name, ask in contenders.items():
        distance = np.abs(ask(batches)[0] - wanted)
        difference[name] = tuple(float(distance[of].max(initial=0)) for of in (~is_score, is_score))
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, ask in contenders.items():
            seconds[name].append(ask(batches)[1])
    return {name: statistics.median(values) for name, values in seconds.items()}, difference


def _all_single(single: Any, loaded: Any, texts: Sequence[str], heads: int, rounds: int) -> float:
    """How much longer so many copies of a task's head take than one, for the same texts, times."""
    import tensorflow as tf

    from mtdnn_tf.modeling import build_mtdnn, encoder_of
    from mtdnn_tf.runs.loading import MTDNN
    from mtdnn_tf.serving.export.signatures import ServedModel

    names = [f"{single.name}_{number}" for number in range(heads)]
    tasks = {name: single.model_copy(update={"name": name}) for name in names}
    experiment = loaded.experiment.model_copy(update={"tasks": tasks})
    encoder = encoder_of(loaded.model)
    model = build_mtdnn(encoder.config, experiment.heads, pooling=encoder.pooling)
    encoder_of(model).set_weights(encoder.get_weights())
    signatures = ServedModel(MTDNN(model, experiment, loaded.tokenizer)).signatures()
    column = tf.constant(texts)
    asked = {names[0]: {single.fields[0]: column}, "all_single": {"sentence1": column}}
    seconds: dict[str, list[float]] = {signature: [] for signature in asked}
    for number in range(HEADS_ROUNDS * rounds + 1):
        for signature, inputs in asked.items():
            start = time.perf_counter()
            signatures[signature](**inputs)
            if number:  # The first is slow.
                seconds[signature].append(time.perf_counter() - start)
    one, every = (statistics.median(values) for values in seconds.values())
    return every / one


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    cli.take_memory_from_the_system()
    import tensorflow as tf
    from benchmarking.transformers_peers import TransformersPeers

    from mtdnn_tf.runs.loading import load
    from mtdnn_tf.serving.export.saved_model import export

    tf.get_logger().setLevel("ERROR")
    if values.threads:
        tf.config.threading.set_intra_op_parallelism_threads(values.threads)
    loaded = load(values.workdir)
    for task in loaded.experiment.heads:
        if task.kind.by_query:
            raise UserError(
                f"--workdir: {task.name} is a ranking task, which the peers do not answer"
            )
    with_score = [name for name in loaded.tasks if not loaded.head(name).kind.has_classes]
    size = values.batch_size
    rows = _rows(loaded, Path(values.data_dir), size * values.batches)
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        peers = TransformersPeers(loaded, values.workdir, folder, values.threads)
        folders = {
            name: export(values.workdir, folder / "models", **settings)
            for name, settings in EXPORTS.items()
        }
        peer_answers: dict[str, Answer] = {ONNX: peers.onnx(), TORCH: peers.torch}
        contenders: dict[str, Asked] = {
            name: partial(_timed, answer) for name, answer in peer_answers.items()
        }
        contenders |= {name: _apart(path, stack) for name, path in folders.items()}
        for title, chosen in (
            (f"batches of {size}", batches),
            ("one at a time", [[row] for row in rows[: 2 * size]]),
        ):
            seconds, difference = _measure(contenders, chosen, with_score, values.rounds)
            count = len(chosen[0])
            print(f"{title:24s} examples/s    ms  / ONNX Runtime  probability    score")
            for name in contenders:
                print(
                    f"{name:24s} {count / seconds[name]:10,.0f} {1000 * seconds[name]:5.1f} "
                    f"{seconds[ONNX] / seconds[name]:15.2f} {difference[name][0]:12.1e}"
                    f" {difference[name][1]:8.1e}"
                )
        single = next((task for task in loaded.experiment.heads if len(task.fields) == 1), None)
        if single:
            texts = [row[1] for row in batches[0]]
            times = _all_single(single, loaded, texts, values.heads, values.rounds)
            print(f"all_single, {values.heads} heads, takes {times:.3f} times as long as one")
    return 0


if __name__ == "__main__":
    cli.run(_main, _define_flags, __doc__ or "")
