"""The token stores of a run."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from mtdnn_tf.data.cache import default_cache_dir
from mtdnn_tf.data.sources import available_splits
from mtdnn_tf.data.store import Choice, open_store
from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.data import DataSettings, Fold, Subset
from mtdnn_tf.tasks.spec import UNLABELLED, TaskSpec
from mtdnn_tf.tokenizers.tokenizer import Tokenizer

Source = tuple[TaskSpec, str, TokenStore]  # A task, one of its splits, and the split's examples.


@dataclass(frozen=True)
class RunData:
    """The token stores that training needs.

    Attributes:
        train: Task name to the store of its train split.
        dev: Every task's dev splits.
        unlabelled: Task name to the store of its unlabelled split, for tasks with teachers.
    """

    train: dict[str, TokenStore]
    dev: list[Source]
    unlabelled: dict[str, TokenStore] = field(default_factory=dict)

    def all_train(self) -> dict[str, TokenStore]:
        """Task name to all that the task is trained on: the train split, then the unlabelled one."""
        return self.train | {
            name: self.train[name].joined(more) for name, more in self.unlabelled.items()
        }

    def summary(self) -> dict[str, dict[str, Any]]:
        """Examples, skipped rows, lengths and hashes of every split, as `data.json` holds them."""
        stores = {f"{name}/train": store for name, store in self.train.items()}
        stores |= {f"{name}/{UNLABELLED}": store for name, store in self.unlabelled.items()}
        stores |= {f"{task.name}/{split}": store for task, split, store in self.dev}
        return {
            name: {
                "examples": len(store),
                "skipped": store.skipped,
                **asdict(store.cut),
                "key": store.key,
                "source": store.source,
                "content": store.content,
            }
            for name, store in stores.items()
        }


def open_split(
    task: TaskSpec,
    split: str,
    settings: DataSettings,
    tokenizer: Tokenizer,
    choices: Sequence[Choice] = (),
) -> TokenStore:
    """Opens one split, or a part of it, tokenised now if it was not yet; see `open_store`.

    Raises:
        UserError: The file is missing or bad.
    """
    return open_store(
        task,
        split,
        Path(settings.data_dir or "."),
        tokenizer,
        Path(settings.cache_dir or default_cache_dir()),
        settings.on_bad_row,
        _tfds_dir(settings),
        choices,
    )


def open_dev(
    tasks: Iterable[TaskSpec], settings: DataSettings, tokenizer: Tokenizer
) -> list[Source]:
    """Opens the dev splits of tasks; an optional one that is not there is left out with a warning.

    Raises:
        UserError: A file is missing or bad.
    """
    data_dir = Path(settings.data_dir or ".")
    return [
        (task, split, open_split(task, split, settings, tokenizer))
        for task in tasks
        for split in available_splits(task, "dev", data_dir, _tfds_dir(settings))
    ]


def open_run_data(
    tasks: Iterable[TaskSpec],
    settings: DataSettings,
    tokenizer: Tokenizer,
    taught: Collection[str] = (),
) -> RunData:
    """Opens the train and dev splits of tasks.

    Args:
        tasks: The tasks.
        settings: Where the data is.
        tokenizer: The tokenizer.
        taught: Names of tasks with teachers, whose unlabelled splits are opened as well.

    Raises:
        UserError: A file is missing or bad.
    """
    tasks = tuple(tasks)
    train = {task.name: open_train(task, settings, tokenizer) for task in tasks}
    unlabelled = {
        task.name: open_split(task, UNLABELLED, settings, tokenizer)
        for task in tasks
        if task.name in taught and UNLABELLED in task.splits
    }
    return RunData(train, open_dev(tasks, settings, tokenizer), unlabelled)


def open_train(task: TaskSpec, settings: DataSettings, tokenizer: Tokenizer) -> TokenStore:
    """Opens a task's train split, or the part of it that `data.folds` and `data.subsets` ask for.

    Raises:
        UserError: A file is missing or bad, or the part is too small or too large.
    """
    fold, subset = settings.folds.get(task.name), settings.subsets.get(task.name)
    choices: list[Choice] = []
    if fold is not None:
        choices.append(lambda size: np.flatnonzero(fold_numbers(size, fold) != fold.without))
    if subset is not None:
        choices.append(lambda size: drawn_items(task, size, subset))
    store = open_split(task, "train", settings, tokenizer, choices)
    if subset is not None and store.labels is not None:
        for number, label in enumerate(task.labels):
            if not (store.labels == number).any():
                raise UserError(
                    f"data.subsets.{task.name}: the {len(store):,} examples that seed {subset.seed} "
                    f"draws have none labelled {label!r}; take more, or another seed"
                )
    return store


def fold_numbers(items: int, fold: Fold) -> np.ndarray:
    """The number of the part that each item of a whole split is in, [items] int64."""
    return np.random.default_rng([fold.seed, 6]).permutation(items) % fold.of


def drawn_items(task: TaskSpec, size: int, subset: Subset) -> np.ndarray:
    """Draws positions of items at random, as a pure function of the subset's seed.

    Raises:
        UserError: There are not so many.
    """
    part = Fraction(str(subset.fraction or 0))  # 0.29 as it is written, not the float next to it.
    count = subset.count or int(size * part)
    if not 0 < count <= size:
        raise UserError(
            f"data.subsets.{task.name}: {count:,} examples, expected 1 to {size:,}, those there are"
        )
    return np.sort(np.random.default_rng([subset.seed, 5]).permutation(size)[:count])


def _tfds_dir(settings: DataSettings) -> Path | None:
    return Path(settings.tfds_dir) if settings.tfds_dir else None
