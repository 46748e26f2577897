"""Prediction beside transformers: the same run, the same sentences, tokenisation included.

    python benchmarks/prediction.py --workdir=runs/glue --task=sst2 --data_dir=glue_data

Needs `pip install -c requirements.lock -e .[bench]`. `mtdnn_tf.load(run).predict`, in float32 and in
bfloat16, answers the training sentences of a task in turns with the run's encoder in transformers and
PyTorch, in batches of --batch_size in the file's order, each padded to its longest. Printed are medians
over the parts, their ratio to PyTorch's float32, and the largest difference of a probability (or score)
from it. Then all, and the run's export in float32, answer one text at a time, in turns: medians, and
their ratio to the export.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from mtdnn_tf.binaries import cli
from mtdnn_tf.errors import UserError

if TYPE_CHECKING:
    from benchmarking.transformers_peers import TransformersPeers

    from mtdnn_tf.runs.loading import MTDNN

Texts = Sequence[tuple[str, ...]]
Answer = Callable[[Texts], np.ndarray]
PEER, EXPORT = "transformers, float32", "exported, float32"
ONE_TEXTS = 50  # How many are asked alone.


def _define_flags() -> None:
    cli.define_path("workdir", None, "The run; heads must be linear.", required=True)
    cli.define_path("data_dir", None, "Folder of the training files.", required=True)
    flags.DEFINE_string("task", "sst2", "Whose training examples are answered.")
    flags.DEFINE_integer("parts", 5, "Parts that they are cut into.", lower_bound=1)
    flags.DEFINE_integer("examples", 0, "Examples of a part; 0 is all there are.", lower_bound=0)
    flags.DEFINE_integer("batch_size", 32, "Examples of a batch of transformers.", lower_bound=1)
    flags.DEFINE_integer("threads", 0, "Threads of each; 0 is one for each core.")


def _ours(loaded: "MTDNN", task: str) -> Answer:
    """What a user of the library does."""

    def answer(texts: Texts) -> np.ndarray:
        found = loaded.predict(task, texts)
        if not loaded.task(task).kind.has_classes:
            return np.array([prediction.score for prediction in found])
        return np.array([next(iter((p.probabilities or {}).values())) for p in found])

    return answer


def _peer(peers: "TransformersPeers", task: str, size: int, *, bfloat16: bool = False) -> Answer:
    """Batches in the order of the file, each padded to its longest."""
    import torch

    dtype = torch.bfloat16 if bfloat16 else torch.float32

    def answer(texts: Texts) -> np.ndarray:
        rows = [(task, text[0], text[1] if len(text) == 2 else "") for text in texts]
        batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        return np.concatenate([peers.torch(batch, dtype) for batch in batches])

    return answer


def _exported(workdir: str, task: str, folder: Path) -> Answer:
    """The run's export, asked as a server asks it."""
    from mtdnn_tf.serving.export.saved_model import export
    from mtdnn_tf.serving.local.servable import Servable

    servable = Servable(export(workdir, folder / "exported"))
    fields = list(servable.signatures[task].inputs)

    def answer(texts: Texts) -> np.ndarray:
        columns = ([text.encode() for text in column] for column in zip(*texts, strict=True))
        inputs = {n: np.array(c, object) for n, c in zip(fields, columns, strict=True)}
        found = servable.run(task, inputs)
        return found["score"] if "score" in found else found["probabilities"][:, 0]

    return answer


def _measure_one(answers: dict[str, Answer], texts: Texts) -> dict[str, float]:
    """Asks all for each text alone in turns: median milliseconds."""
    seconds: dict[str, list[float]] = {name: [] for name in answers}
    for answer in answers.values():
        answer(texts[:1])
    for text in texts:
        for name, answer in answers.items():
            start = time.perf_counter()
            answer([text])
            seconds[name].append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(values) for name, values in seconds.items()}


def _measure(answers: dict[str, Answer], exported: Answer, parts: Sequence[Texts]) -> None:
    """Asks all for each part, and for one text, in turns and prints the table."""
    rates: dict[str, list[float]] = {name: [] for name in answers}
    difference = dict.fromkeys(answers, 0.0)
    for answer in answers.values():
        answer(parts[0][:256])  # Graphs are built, and caches of shapes filled.
    for number, part in enumerate(parts, 1):
        found = {}
        for name, answer in answers.items():
            start = time.perf_counter()
            found[name] = answer(part)
            rates[name].append(len(part) / (time.perf_counter() - start))
        for name, values in found.items():
            most = float(np.abs(values - found[PEER]).max())
            difference[name] = max(difference[name], most)
        print(f"part {number} of {len(parts)}", flush=True)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    one = _measure_one(answers | {EXPORT: exported}, parts[0][:ONE_TEXTS])
    print(f"{'':24s} examples/s   times  largest difference  one text, ms  of the export")
    for name, milliseconds in one.items():
        of_parts = " " * 38
        if name in medians:
            rate = medians[name]
            of_parts = f"{rate:10,.0f} {rate / medians[PEER]:7.2f} {difference[name]:19.1e}"
        print(f"{name:24s} {of_parts} {milliseconds:13.1f} {milliseconds / one[EXPORT]:14.2f}")


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    import tensorflow as tf
    from benchmarking.transformers_peers import TransformersPeers

    from mtdnn_tf.data.sources import read_split
    from mtdnn_tf.runs.loading import load

    if values.threads:
        tf.config.threading.set_intra_op_parallelism_threads(values.threads)
    float32, bfloat16 = (load(values.workdir, "best", p) for p in ("float32", "mixed_bfloat16"))
    task = float32.task(values.task)
    if task.kind.by_query:
        raise UserError(f"--task: {task.name} ranks; expected classification or similarity")
    columns = read_split(task, "train", Path(values.data_dir)).texts
    texts = list(zip(*(columns[field] for field in task.fields), strict=True))
    size = values.examples or -(-len(texts) // values.parts)
    parts = [texts[start : start + size] for start in range(0, len(texts), size)][: values.parts]
    with tempfile.TemporaryDirectory() as folder:
        peers = TransformersPeers(float32, values.workdir, Path(folder), values.threads)
        answers = {
            PEER: _peer(peers, task.name, values.batch_size),
            "transformers, bfloat16": _peer(peers, task.name, values.batch_size, bfloat16=True),
            "ours, float32": _ours(float32, task.name),
            "ours, bfloat16": _ours(bfloat16, task.name),
        }
        _measure(answers, _exported(values.workdir, task.name, Path(folder)), parts)
    return 0


if __name__ == "__main__":
    cli.run(_main, _define_flags, __doc__ or "")
