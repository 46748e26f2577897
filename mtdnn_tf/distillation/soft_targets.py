"""The cache of soft targets: what each teacher says of each training example, by uid.

A folder a teacher, task and split, `<task>-<split>-<hash>`:

meta.json       the teacher, the task and the examples that the numbers are of
uids.npy        [examples] str
00000000.npy    [some, outputs] float32, the logits from that example on, not a number where an
                example is not labelled; a file without labelled examples may be missing
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mtdnn_tf.data.ranges import ranges
from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.errors import UserError
from mtdnn_tf.files import replaced, write_atomically
from mtdnn_tf.runs.checkpoint_folder import CheckpointFolder
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.tasks.spec import TaskSpec

# Items (see `TokenStore.item_offsets`) that a file holds, and that are labelled at once: what a kill
# costs. Files of four times as many, as there once were, are read as well.
PART = 1024


def teacher_fingerprint(workdir: str | Path, checkpoint: str) -> str:
    """Hash of all that a run's predictions depend on.

    Raises:
        UserError: There is no such run or checkpoint.
    """
    directory = RunDirectory(workdir)
    experiment = directory.read_experiment()
    folder = directory.checkpoints / checkpoint
    newest = next(iter(CheckpointFolder(folder).newest_first()), None)
    if newest is None:
        raise UserError(f"no checkpoint in {folder}")
    files = sorted(folder.glob(f"{newest.name}.[di]*"))
    files += [directory.path / name for name in ("vocab.txt", "tokenizer.json")]
    files += [directory.encoder / "config.json"]
    fields = {"name", "kind", "fields", "labels", "score_range", "ranking", "head", "san"}
    settings = {
        "pooling": experiment.encoder.pooling,
        "precision": experiment.training.precision,
        "tasks": [task.model_dump(mode="json", include=fields) for task in experiment.heads],
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


class SoftTargets:
    """What one teacher says of the examples of one split of one task.

    Args:
        cache_dir: Folder of the cache.
        run: The teacher's run directory, for messages.
        teacher: Its `teacher_fingerprint`.
        task: The student's task; its order of labels is that of the numbers.
        split: The split.
        source: `TokenStore.source` of the split.
    """

    def __init__(
        self,
        cache_dir: Path,
        run: str,
        teacher: str,
        task: TaskSpec,
        split: str,
        source: str,
    ) -> None:
        self._cache_dir, self._task, self._split = cache_dir, task, split
        self._meta = {
            "run": run,
            "teacher": teacher,
            "task": task.name,
            "split": split,
            "labels": list(task.labels),
            "source": source,
        }
        identity = {name: value for name, value in self._meta.items() if name != "run"}
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.folder = cache_dir / f"{task.name}-{split}-{digest[:16]}"

    def missing(self, store: TokenStore, uids: np.ndarray) -> np.ndarray:
        """The items that are to be labelled, ascending: those of some examples without logits.

        Args:
            store: The split, whole, as the teacher's tokenizer sees it.
            uids: Of the examples that are wanted.

        Raises:
            UserError: A file of the cache is damaged.
        """
        unknown = np.isnan(self._logits(len(store))[:, 0]) & np.isin(store.uids, uids)
        return np.flatnonzero(np.logical_or.reduceat(unknown, store.item_offsets[:-1]))

    def write(
        self, store: TokenStore, items: np.ndarray, logits_of: Callable[[TokenStore], np.ndarray]
    ) -> Iterator[int]:
        """Labels items, those of one file at a time; where nothing is missing it writes nothing.

        Args:
            store: As in `missing`.
            items: What `missing` found.
            logits_of: Gives [examples, outputs] float32 for a store.

        Yields:
            How many examples were labelled, when they are saved.

        Raises:
            UserError: The cache cannot be written; what it has is kept.
        """
        if not len(items) and self._is_whole:
            return
        offsets = store.item_offsets
        logits = self._logits(len(store))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _save(self.folder / "uids.npy", np.asarray(store.uids))
            # A file is labelled at once: a batch never depends on where an earlier process was killed.
            for part in np.unique(items // PART):
                now = items[items // PART == part]
                examples = ranges(offsets[now], np.diff(offsets)[now])
                logits[examples] = logits_of(store.subset(now))
                first, past = offsets[[part * PART, min((part + 1) * PART, len(offsets) - 1)]]
                _save(self.folder / f"{first:08d}.npy", logits[first:past])
                yield len(examples)
        except OSError as error:
            raise UserError(f"cannot write {self.folder}: {error.strerror}") from error
        write_atomically(self.folder / "meta.json", json.dumps(self._meta, indent=2) + "\n")

    @property
    def _is_whole(self) -> bool:
        """Whether a labelling has come to its end."""
        return (self.folder / "meta.json").is_file()

    def read(self, uids: np.ndarray) -> np.ndarray:
        """The teacher's logits of some examples.

        Args:
            uids: [examples] str.

        Returns:
            [examples, outputs] float32.

        Raises:
            UserError: They are not there, or the cache has those of another teacher or other data.
        """
        if not self._is_whole:
            raise UserError(self._missing())
        with self._damage_told():
            known = np.load(self.folder / "uids.npy", allow_pickle=False)
        rows = positions_of(uids, known)
        logits = self._logits(len(known))[rows]
        if (lacking := (known[rows] != uids) | np.isnan(logits[:, 0])).any():
            raise UserError(
                f"the soft targets {self.folder} lack the example {str(uids[lacking][0])!r} of "
                f"{self._task.name}/{self._split}; label again"
            )
        return logits

    def _logits(self, examples: int) -> np.ndarray:
        """What there is, [examples, outputs] float32; not a number where there is nothing."""
        logits = np.full([examples, self._task.output_size], np.nan, np.float32)
        with self._damage_told():
            for path in sorted(self.folder.glob("[0-9]*.npy")):
                part = np.load(path, allow_pickle=False)
                first = int(path.stem)
                logits[first : first + len(part)] = part
        return logits

    @contextlib.contextmanager
    def _damage_told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, EOFError) as error:
            raise UserError(
                f"the soft targets {self.folder} are damaged ({error}); remove them and label again"
            ) from error

    def _missing(self) -> str:
        """Why there is nothing to read: what there is of the same task is of something else."""
        run, of = self._meta["run"], f"{self._task.name}/{self._split}"
        reason = "label with mtdnn-distill --label_only first"
        pattern = f"{self._task.name}-{self._split}-*/meta.json"
        for path in sorted(self._cache_dir.glob(pattern)):
            try:
                there: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                reason = f"{path} is damaged; remove its folder and label again"
                continue
            if there["teacher"] == self._meta["teacher"]:
                reason = f"those of {path.parent} are of other data or labels; label again"
                break
            if there["run"] == run:
                reason = f"those of {path.parent} are of another state of that run; label again"
        return f"no soft targets of {run} for {of} in {self._cache_dir}: {reason}"


def positions_of(uids: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Where each uid is among those known, or any place where it is not, [uids] int64."""
    order = np.argsort(known)
    return order[np.searchsorted(known, uids, sorter=order).clip(max=len(known) - 1)]


def _save(path: Path, array: np.ndarray) -> None:
    with replaced(path) as partial, partial.open("wb") as file:
        np.save(file, array, allow_pickle=False)
