"""Draws the rows of every task and split and writes them in GLUE's own files."""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from mtdnn_tf.demo_data import acceptability, inference, sentiment, similarity
from mtdnn_tf.demo_data.example import Example
from mtdnn_tf.demo_data.layout import Layout, cola_table, mnli_table, sst_table, stsb_table
from mtdnn_tf.demo_data.lexicon import Lexicon, lexicon
from mtdnn_tf.errors import UserError

Draw = Callable[[Random, Lexicon, str], list[Example]]
# So many draws in a row without anything new: the grammar has run out of sentences.
MAX_VAIN_DRAWS = 5_000


@dataclass(frozen=True)
class Split:
    """A split.

    Attributes:
        name: The file is `<name>.tsv`.
        cell: Rows for each phenomenon and each label of it.
        unseen: The share of draws that use the domain which training never sees.
    """

    name: str
    cell: int
    unseen: float = 0.0


@dataclass(frozen=True)
class Task:
    """A task of the benchmark.

    Attributes:
        folder: GLUE's name of the task.
        draw: Draws examples of a phenomenon.
        phenomena: The names of the phenomena, which are equally frequent.
        labels: The classes, equally frequent within a phenomenon; none for scores.
        layout: Lays examples out in GLUE's columns.
        splits: The splits; no sentence or pair is in two of them.
    """

    folder: str
    draw: Draw
    phenomena: tuple[str, ...]
    labels: tuple[str, ...]
    layout: Layout
    splits: tuple[Split, ...]


TASKS = (
    Task(
        "CoLA",
        acceptability.draw,
        tuple(acceptability.PHENOMENA),
        ("0", "1"),
        cola_table,
        (Split("train", 64), Split("dev", 14, 0.25), Split("test", 9, 0.25)),
    ),
    Task(
        "SST-2",
        sentiment.draw,
        tuple(sentiment.PHENOMENA),
        ("0", "1"),
        sst_table,
        (Split("train", 60), Split("dev", 17, 0.25), Split("test", 11, 0.25)),
    ),
    Task(
        "STS-B",
        similarity.draw,
        tuple(similarity.PHENOMENA),
        (),
        stsb_table,
        (Split("train", 200), Split("dev", 50, 0.25), Split("test", 33, 0.25)),
    ),
    Task(
        "MNLI",
        inference.draw,
        tuple(inference.PHENOMENA),
        ("contradiction", "entailment", "neutral"),
        mnli_table,
        (
            Split("train", 100),
            Split("dev_matched", 17),
            Split("dev_mismatched", 17, 1.0),
            Split("test_matched", 11),
            Split("test_mismatched", 11, 1.0),
        ),
    ),
)


def draw_split(
    rng: Random, task: Task, split: Split, cell: int, taken: set[tuple[str, ...]]
) -> list[Example]:
    """Draws a split with `cell` rows for each phenomenon and label.

    Args:
        rng: The source of chance.
        task: The task.
        split: The split.
        cell: Rows for each phenomenon and label.
        taken: The keys of the examples drawn before, which are not drawn again; grows.

    Raises:
        UserError: The grammar has no more than was asked for.
    """
    examples: list[Example] = []
    for phenomenon in task.phenomena:
        filled: Counter[str] = Counter()
        missing, vain = cell * max(1, len(task.labels)), 0
        while missing:
            domain = lexicon("country" if rng.random() < split.unseen else "town")
            group = task.draw(rng, domain, phenomenon)
            keys = {example.key for example in group}
            full = task.labels and any(filled[example.label] >= cell for example in group)
            if full or len(keys) < len(group) or keys & taken:
                vain += 1
                if vain > MAX_VAIN_DRAWS:
                    raise UserError(
                        f"{task.folder} {split.name}: the demo grammar has fewer different "
                        f"examples of {phenomenon!r} than asked for; expected a smaller scale"
                    )
                continue
            taken |= keys
            filled.update(example.label for example in group)
            examples += group
            missing, vain = missing - len(group), 0
    rng.shuffle(examples)
    return examples


def write_task(folder: Path, task: Task, seed: int, scale: float) -> None:
    """Writes the files of one task below `folder`."""
    (folder / task.folder).mkdir()
    taken: set[tuple[str, ...]] = set()
    for split in task.splits:
        # A string seeds through SHA-512, the same in every process.
        rng = Random(f"{seed}/{task.folder}/{split.name}")
        examples = draw_split(rng, task, split, max(1, round(split.cell * scale)), taken)
        lines = ["\t".join(row) + "\n" for row in task.layout(split.name, examples)]
        path = folder / task.folder / f"{split.name}.tsv"
        path.write_text("".join(lines), encoding="utf-8", newline="\n")


def write_benchmark(folder: Path, seed: int = 0, scale: float = 1.0) -> None:
    """Writes `CoLA/`, `SST-2/`, `STS-B/` and `MNLI/` in GLUE's layout, replacing what was there.

    The same arguments give the same bytes everywhere. Labels are balanced within every phenomenon;
    no sentence (single tasks) and no pair (pair tasks) is in two splits of a task or twice in one.
    A quarter of the dev and test rows, and all of MNLI's mismatched ones, use nouns, names, places,
    verbs and adjectives that are nowhere in training. As in GLUE, test has no labels.

    Args:
        folder: Comes into being complete or not at all; its parent is made where missing.
        seed: Which benchmark of many.
        scale: Factor of the number of rows; 1.0 gives about 5,400 training rows.

    Raises:
        UserError: `scale` is not positive or so large that the grammar runs out of sentences, or
            `folder` is a file or holds something else than a benchmark.
    """
    if not scale > 0:
        raise UserError(f"demo data: scale is {scale}; expected a number above 0")
    folder = Path(folder)
    known = {task.folder for task in TASKS}
    if folder.exists() and not (folder.is_dir() and {p.name for p in folder.iterdir()} <= known):
        raise UserError(
            f"{folder}: expected a new or empty folder or one with demo data alone "
            f"({', '.join(sorted(known))})"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        made = temporary / "made"
        made.mkdir()
        for task in TASKS:
            write_task(made, task, seed, scale)
        if folder.exists():
            os.rename(folder, temporary / "replaced")
        os.rename(made, folder)
    finally:
        shutil.rmtree(temporary)
