"""Training steps of ours beside those of others, and beside the machine's own limit.

    python benchmarks/training.py --data_dir=glue_data --output=benchmark
    python benchmarks/training.py --quick                       # two minutes, made-up lengths

Needs `pip install -c requirements.lock -e .[bench]`. Every contender is a process of its own with the
same weights and the same examples (CoLA, SST-2, MRPC, STS-B and RTE mixed by the square root of their
sizes; padded batches are of 32 of one task, those of a turn together of the mix's mean length; where
the files are absent, random word pieces of like lengths). They take turns; the others wait. Printed,
and written as `training.json`, `training.md` and `training.png`, are medians over the rounds:
examples/s, real tokens/s, the operations of the encoder's matrix products on real tokens (those that
are computed: ours needs few of the last layer), their share of what such products alone reach (the
limit), the peak of memory, and the seconds from a process's start
to the end of its first step.

--peer_python runs the PyTorch contenders in another interpreter, which needs torch, transformers and
NumPy alone. --backend=jax runs ours and the limit under JAX, for a machine that has no TensorFlow for
its accelerator: the model, plan and batches are the same, the step is the benchmark's own, lengths are
made up and --encoder gives sizes (12x768x3072, 24x1024x4096). PyTorch's contenders can be named beside.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from mtdnn_tf.binaries import cli
from mtdnn_tf.errors import UserError

if TYPE_CHECKING:
    from benchmarking.results import Result

TASKS = ("cola", "sst2", "mrpc", "stsb", "rte")
EXAMPLES = 12_800
CONTENDERS = (
    "ours bf16 packed",
    "ours fp32 packed",
    "ours bf16 packed no-dropout",
    "ours fp32 pad",
    "ours bf16 pad",
    "ours fp32 dynamic",
    "torch fp32 pad",
    "torch fp32 dynamic",
    "torch fp32 grouped",
    "torch bf16 pad",
    "torch bf16 dynamic",
    "torch bf16 grouped",
    "torch bf16 grouped compiled",
    "model_garden fp32 dynamic",
)
JAX = ("ours bf16 packed", "ours fp32 packed", "ours bf16 packed no-dropout")
QUICK = (
    "ours bf16 packed",
    "ours fp32 packed",
    "torch fp32 pad",
    "torch fp32 dynamic",
    "torch bf16 dynamic",
)
TURN, QUICK_TURN = 6, 3  # Padded batches that are measured together: as long as all on average.


def _define_flags() -> None:
    cli.define_path("data_dir", None, "Folder of the GLUE files; without it lengths are made up.")
    cli.define_path("encoder", "all-MiniLM-L6-v2", "The encoder: a name or folder, or LxHxI.")
    cli.define_path("output", None, "Folder for the results; by default they are printed alone.")
    flags.DEFINE_list("contenders", None, "Which; by default all, with --quick a few.")
    flags.DEFINE_bool("quick", False, "Few contenders and short rounds.")
    flags.DEFINE_integer("examples", 32, "Examples of a step.", lower_bound=1)
    flags.DEFINE_integer("max_length", 128, "Slots of a padded and of a packed row.", lower_bound=8)
    flags.DEFINE_float("dropout", 0.1, "Of hidden states and attention, where not left out.")
    flags.DEFINE_integer("rounds", 5, "Times that each is measured.", lower_bound=1)
    flags.DEFINE_float("seconds", 6.0, "About how long a contender's round is.", lower_bound=0.1)
    flags.DEFINE_integer("threads", 0, "Threads of each; 0 is one for each core.")
    flags.DEFINE_enum("backend", "tensorflow", ["tensorflow", "jax"], "What ours runs on.")
    cli.define_path("peer_python", sys.executable, "Interpreter of the PyTorch contenders.")


def _real(data_dir: str, encoder: Path, max_length: int) -> Any:
    """Examples of the GLUE files."""
    import numpy as np
    from benchmarking.workload import Workload

    from mtdnn_tf import pretrained
    from mtdnn_tf.data.sources import read_split
    from mtdnn_tf.data.tokenizing import tokenize_rows
    from mtdnn_tf.tasks.registry import builtin_tasks
    from mtdnn_tf.tokenizers.wordpiece import BertTokenizer

    found = pretrained.read_tokenizer(encoder)
    tokenizer = BertTokenizer(found.vocab, **found.settings, max_length=max_length)
    stores = []
    for name in TASKS:
        task = builtin_tasks()[name]
        stores.append(tokenize_rows(task, read_split(task, "train", Path(data_dir)), tokenizer))
    roots = np.sqrt([len(store) for store in stores])
    draw = np.random.default_rng(0)
    parts = []
    for store, share in zip(stores, roots / roots.sum(), strict=True):
        count = min(len(store), round(EXAMPLES * share))
        parts.append(store.subset(np.sort(draw.choice(len(store), count, replace=False))))
    lengths = np.concatenate([part.lengths for part in parts])
    return Workload(
        np.concatenate([part.token_ids for part in parts]),
        np.concatenate([part.type_ids for part in parts]),
        np.concatenate([[0], np.cumsum(lengths)]),
        draw.integers(0, 2, len(lengths)).astype(np.int32),
        np.repeat(np.arange(len(parts), dtype=np.int32), list(map(len, parts))),
        max_length,
    )


def _encoder(name: str) -> tuple[Path | None, dict[str, int]]:
    """The folder of an encoder's weights, if it has some, and its sizes."""
    sizes = name.split("x")
    if len(sizes) == 3 and all(size.isdigit() for size in sizes):
        layers, hidden, inner = map(int, sizes)
        if hidden % 64:
            raise UserError(f"--encoder={name}: the hidden size must be a multiple of 64")
        return None, {
            "vocab_size": 30522,
            "num_layers": layers,
            "hidden_size": hidden,
            "num_heads": hidden // 64,
            "intermediate_size": inner,
        }
    from mtdnn_tf import pretrained

    folder = pretrained.resolve(name)
    config = pretrained.load_config(folder)
    names = ("vocab_size", "num_layers", "hidden_size", "num_heads", "intermediate_size")
    return folder, {name: getattr(config, name) for name in names}


def _measure(values: flags.FlagValues, names: list[str], folder: Path) -> "dict[str, Result]":
    """Starts the contenders, lets them take turns, and ends them."""
    from benchmarking.contender import Contender, take_turns

    contenders = {}
    for name in names:
        python = values.peer_python if name.startswith("torch") else sys.executable
        contenders[name] = Contender(name, folder, python)
        print(f"{name}: first step after {contenders[name].first_step:.1f} s", flush=True)
    rounds, seconds = (3, 2.0) if values.quick else (values.rounds, values.seconds)
    take_turns(list(contenders.values()), rounds, seconds)
    return {name: contender.end() for name, contender in contenders.items()}


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    from benchmarking.results import LIMITS, rows, show, write
    from benchmarking.workload import Workload

    on_jax = values.backend == "jax"
    torch = tuple(name for name in CONTENDERS if name.startswith("torch"))
    known = (*JAX, *torch) if on_jax else CONTENDERS
    by_default = JAX if on_jax else QUICK if values.quick else CONTENDERS
    names = list(values.contenders or by_default)
    for name in names:
        if name not in known:
            raise UserError(f"--contenders: {name!r} is none of {', '.join(known)}")
    encoder, config = _encoder(values.encoder)
    if on_jax and encoder:
        raise UserError(
            f"--backend=jax needs sizes as --encoder, such as 6x384x1536, not {encoder}"
        )
    if values.data_dir and encoder is None:
        raise UserError("--data_dir needs an --encoder with a vocabulary, not sizes alone")
    if values.data_dir and encoder:
        workload = _real(values.data_dir, encoder, values.max_length)
    else:
        workload = Workload.made_up(EXAMPLES, config["vocab_size"], values.max_length)
    settings = {
        "encoder": str(encoder) if encoder else None,
        "config": config,
        "examples": values.examples,
        "turn": QUICK_TURN if values.quick else TURN,
        "dropout": values.dropout,
        "threads": values.threads,
        "backend": values.backend,
    }
    with tempfile.TemporaryDirectory() as folder:
        workload.save(Path(folder) / "workload.npz")
        (Path(folder) / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        results = _measure(values, [*LIMITS, *names], Path(folder))
    table = rows(results, config, workload.lengths)
    show(table)
    if values.output:
        write(table, settings, Path(values.output))
    return 0


if __name__ == "__main__":
    cli.run(_main, _define_flags, __doc__ or "")
