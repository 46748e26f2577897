"""Prediction beside transformers: the same run, the same sentences, tokenisation included.

    python tools/benchmark_prediction.py --workdir=runs/glue --task=sst2 --data_dir=glue_data

Needs `pip install -c requirements.lock -e .[bench]`. `mtdnn_tf.load(run).predict`, in float32 and in
bfloat16, answers the training sentences of a task in turns with the run's encoder in transformers and
PyTorch, in batches of --batch_size in the file's order, each padded to its longest. Printed are medians
over the parts, their ratio to PyTorch's float32, and the largest difference of a probability (or score)
from it.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from mtdnn_tf import cli
from mtdnn_tf.errors import UserError

if TYPE_CHECKING:
    from benchmarking.transformers_peers import TransformersPeers

    from mtdnn_tf.loading import MTDNN

Texts = Sequence[tuple[str, ...]]
Answer = Callable[[Texts], np.ndarray]
PEER = "transformers, float32"


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
        if loaded.task(task).has_score:
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


def _measure(answers: dict[str, Answer], parts: Sequence[Texts]) -> None:
    """Asks all for each part in turns and prints the table."""
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
    print(f"{'':24s} examples/s   times  largest difference")
    for name, rate in medians.items():
        print(f"{name:24s} {rate:10,.0f} {rate / medians[PEER]:7.2f} {difference[name]:19.1e}")


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    import tensorflow as tf
    from benchmarking.transformers_peers import TransformersPeers

    from mtdnn_tf.data.sources import read_split
    from mtdnn_tf.loading import load

    if values.threads:
        tf.config.threading.set_intra_op_parallelism_threads(values.threads)
    float32, bfloat16 = (load(values.workdir, "best", p) for p in ("float32", "mixed_bfloat16"))
    task = float32.task(values.task)
    if task.is_ranking:
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
        _measure(answers, parts)
    return 0


if __name__ == "__main__":
    cli.run(_main, _define_flags, __doc__ or "")
