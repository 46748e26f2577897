"""Tiny encoders and tasks, and experiments of them."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import save_file

from mtdnn_tf.tasks import resolve_task

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


# Of `training`: what makes moments to be killed at.
OFTEN = {"steps_per_loop": 3, "checkpoint_every_steps": 6}


def write_experiment(folder: Path, **sections: dict) -> Path:
    """Writes an encoder, data and a config into `folder`; returns the config's path.

    Keyword arguments are merged into the config's sections.
    """
    encoder = write_encoder(folder / "encoder")
    config = {
        "tasks": write_tasks(folder / "data"),
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
        },
    }
    for section, values in sections.items():
        config[section] = {**config.get(section, {}), **values}
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


ANSWERS = {
    "kind": "ranking",
    "fields": ["question", "answer"],
    "labels": ["wrong", "right"],
    "metrics": ["mrr", "accuracy_at_1"],
    "splits": {"train": {"file": "train.tsv"}, "dev": {"file": "dev.tsv"}},
}


def add_answers(path):
    """Adds the task `answers` to a config that `write_experiment` wrote."""
    for split, count in (("train", 40), ("dev", 20)):
        write_answers(path.parent / "data", f"answers_{split}.jsonl", count, seed=count)
    splits = {s: {"file": f"answers_{s}.jsonl", "candidate_lists": True} for s in ("train", "dev")}
    tree = yaml.safe_load(path.read_text())
    tree["tasks"]["answers"] = {**ANSWERS, "splits": splits}
    path.write_text(yaml.safe_dump(tree))


def write_answers(folder, name, queries, seed):
    rng = random.Random(seed)
    rows = []
    for _ in range(queries):
        good = rng.random() < 0.5
        texts = [sentence(rng, BAD if good else GOOD) for _ in range(rng.choice([1, 2, 3]))]
        position = rng.randrange(len(texts) + 1)
        texts.insert(position, sentence(rng, GOOD if good else BAD))
        question = sentence(rng, GOOD if good else BAD)
        rows.append({"question": question, "answer": texts, "label": position})
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def write_all_kinds(folder, **sections):
    """A config with a task of every kind: classification, by a SAN head too, similarity, ranking."""
    path = write_experiment(folder, **sections)
    add_answers(path)
    return path


def task_with(split, columns=None, **changes):
    """A task of pairs whose split `split` has the file `rows.tsv` (or `file`)."""
    layout_keys = ("file", "header", "column_count", "on_bad_row", "optional")
    layout = {key: changes.pop(key) for key in layout_keys if key in changes}
    return resolve_task(
        "own",
        {
            "kind": "pair_classification",
            "fields": ["a", "b"],
            "labels": ["no", "yes"],
            "metrics": ["accuracy"],
            **changes,
            "splits": {split: {"file": "rows.tsv", "columns": columns or {}, **layout}},
        },
    )
