"""A tiny encoder and tiny tasks, so that tests can run the whole system in seconds."""

import atexit
import json
import multiprocessing
import os
import random
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GOOD = "bright calm clever fresh gentle happy lively neat sunny warm".split()
BAD = "broken cold cruel dull foul grim harsh ruined sad sour".split()
NOUNS = "boat clock door field garden hat lamp road song tower".split()
VOCAB = [*SPECIALS, *GOOD, *BAD, *NOUNS, *"the a is was and not very .".split()]


def write_encoder(
    folder: Path,
    seed: int = 0,
    hidden: int = 16,
    layers: int = 1,
    vocab: Sequence[str] = tuple(VOCAB),
    unused: int = 0,
) -> Path:
    """Writes a random encoder in Hugging Face's layout and returns its folder.

    Its table has so many rows more, `unused`, than there are word pieces.
    """
    rows = len(vocab) + unused
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "bert",
        "vocab_size": rows,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": 64,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "initializer_range": 0.02,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n")
    rng = np.random.default_rng(seed)

    def matrix(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.2, shape).astype(np.float32)

    tensors = {}

    def dense(name: str, inputs: int, outputs: int) -> None:
        tensors[f"{name}.weight"] = matrix(outputs, inputs)
        tensors[f"{name}.bias"] = matrix(outputs)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = 1 + matrix(hidden)
        tensors[f"{name}.bias"] = matrix(hidden)

    tensors["embeddings.word_embeddings.weight"] = matrix(rows, hidden)
    tensors["embeddings.position_embeddings.weight"] = matrix(64, hidden)
    tensors["embeddings.token_type_embeddings.weight"] = matrix(2, hidden)
    norm("embeddings.LayerNorm")
    for i in range(layers):
        layer = f"encoder.layer.{i}"
        for part in ("query", "key", "value"):
            dense(f"{layer}.attention.self.{part}", hidden, hidden)
        dense(f"{layer}.attention.output.dense", hidden, hidden)
        norm(f"{layer}.attention.output.LayerNorm")
        dense(f"{layer}.intermediate.dense", hidden, 2 * hidden)
        dense(f"{layer}.output.dense", 2 * hidden, hidden)
        norm(f"{layer}.output.LayerNorm")
    dense("pooler.dense", hidden, hidden)
    save_file(tensors, folder / "model.safetensors")
    return folder


def sentence(rng: random.Random, adjectives: list[str]) -> str:
    words = [
        "the",
        rng.choice(NOUNS),
        "is",
        rng.choice(["very", "not", ""]),
        rng.choice(adjectives),
    ]
    return " ".join(w for w in words if w) + " ."


def write_tasks(folder: Path, train: int = 96, dev: int = 32, seed: int = 0) -> dict:
    """Writes three tasks (single, pair, similarity) and returns the `tasks` part of a config."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    for split, count in (("train", train), ("dev", dev)):
        mood, same, near = ["sentence\tlabel"], [], ["a\tb\tscore"]
        for _ in range(count):
            good = rng.random() < 0.5
            mood.append(f"{sentence(rng, GOOD if good else BAD)}\t{int(good)}")
            one, two = (rng.random() < 0.5 for _ in range(2))
            a, b = (sentence(rng, GOOD if flag else BAD) for flag in (one, two))
            same.append(json.dumps({"a": a, "b": b, "label": "yes" if one == two else "no"}))
            near.append(f"{a}\t{b}\t{3.0 * (one == two) + 2.0 * (a.split()[1] == b.split()[1])}")
        (folder / f"mood_{split}.tsv").write_text("\n".join(mood) + "\n")
        (folder / f"same_{split}.jsonl").write_text("\n".join(same) + "\n")
        (folder / f"near_{split}.tsv").write_text("\n".join(near) + "\n")

    def splits(pattern: str, **layout: object) -> dict:
        return {s: {"file": pattern.format(s), **layout} for s in ("train", "dev")}

    return {
        "mood": {
            "kind": "single_classification",
            "fields": ["sentence"],
            "labels": ["bad", "good"],
            "label_values": {"0": "bad", "1": "good"},
            "metrics": ["accuracy", "matthews"],
            "splits": splits("mood_{}.tsv"),
        },
        "same": {
            "kind": "pair_classification",
            "fields": ["a", "b"],
            "labels": ["no", "yes"],
            "metrics": ["f1", "accuracy"],
            "splits": splits("same_{}.jsonl"),
        },
        "near": {
            "kind": "similarity",
            "fields": ["a", "b"],
            "score_range": [0, 5],
            "metrics": ["pearson", "spearman"],
            "splits": splits("near_{}.tsv", columns={"label": "score"}),
        },
    }


def write_experiment(folder: Path, *, examples: int = 48, **sections: dict) -> Path:
    """Writes an encoder, data and a config into `folder`; returns the config's path.

    `examples` are those of a task to train on; dev splits have a third. Keyword arguments are merged
    into the config's sections.
    """
    encoder = write_encoder(folder / "encoder")
    config = {
        "tasks": write_tasks(folder / "data", examples, examples // 3),
        "encoder": {"pretrained": str(encoder)},
        "data": {
            "max_length": 24,
            "data_dir": str(folder / "data"),
            "cache_dir": str(folder / "c"),
        },
        "batch": {"rows": 4, "length": 48, "eval_rows": 4},
        "training": {
            "epochs": 2,
            "learning_rate": 0.003,
            "loss_reduction": "task",
            "steps_per_loop": 3,
            "checkpoint_every_steps": 6,
        },
    }
    for section, values in sections.items():
        config[section] = {**config.get(section, {}), **values}
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def run(
    module: str,
    *arguments: object,
    script: str | None = None,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess:
    """Runs a command by its name, or a script, and returns what came of it.

    The process is forked from one that has imported TensorFlow, which saves seconds each time.
    """
    command = ["-c" if script else f"mtdnn_tf.binaries.{module}", *map(str, arguments)]
    if module in ("train", "distill"):
        command.insert(1, "--noreport")  # It takes seconds, and tests/test_report.py looks at it.
    with tempfile.TemporaryDirectory() as folder:
        streams = [str(Path(folder) / name) for name in ("out", "err")]
        life = (command, script, env or {}, cwd, streams)
        process = FORK_SERVER.Process(target=in_fork, args=life)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")  # As the binaries do, before the import.
            process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, SECONDS)
        out, err = (Path(stream).read_text() for stream in streams)
    return subprocess.CompletedProcess(command, process.exitcode, out, err)


SECONDS = 300  # Most that a process may take.
FORK_SERVER = multiprocessing.get_context("forkserver")
FORK_SERVER.set_forkserver_preload(["tiny", "mtdnn_tf.recipes.results"])


def in_fork(
    command: list[str],
    script: str | None,
    environment: dict[str, str],
    cwd: Path | None,
    streams: list[str],
) -> None:
    """The life of a forked process: what `python -m` or `python -c` would do."""
    for descriptor, stream in enumerate(streams, start=1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.update(environment)
    if cwd:
        os.chdir(cwd)
    sys.argv = command
    try:
        if script:
            exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()


def some(cases: Sequence[object], *chosen: object) -> list[object]:
    """Cases of a test: `make test` runs the chosen ones, `make check-long` the others."""
    return [c if c in chosen else pytest.param(c, marks=pytest.mark.long) for c in cases]


def peak_of(act: Callable[[], object]) -> int:
    """Most bytes that the process has more while `act` runs than before."""
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        pytest.skip("Linux alone tells the peak of a part of a process's life")

    def size(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])

    before = size("VmRSS")
    reset.write_text("5")
    act()
    return size("VmHWM") - before


def error_line(done: subprocess.CompletedProcess) -> str:
    """The one line that a binary ended with, after whatever it logged: no traceback, no second error."""
    assert "Traceback" not in done.stderr, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert lines == done.stderr.splitlines()[-1:], done.stderr
    return lines[0]


def numbers(record: dict) -> dict:
    """A record of metrics.jsonl without what depends on the clock."""
    return {k: v for k, v in record.items() if k not in ("seconds", "examples_per_second")}
