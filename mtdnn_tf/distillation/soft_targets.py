"""The cache of soft targets: what each teacher says of each training example, by uid.

A folder a teacher, task and split, `<task>-<split>-<hash>`:

meta.json       the teacher, the task and the examples that the numbers are of
uids.npy        [examples] str
00000000.npy    [some, outputs] float32, the logits from that example on; the next file follows
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mtdnn_tf.checkpoint_folder import CheckpointFolder
from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.errors import UserError
from mtdnn_tf.files import write_atomically
from mtdnn_tf.run_directory import RunDirectory
from mtdnn_tf.tasks.spec import TaskSpec

PART = 4096  # Items (see `TokenStore.item_offsets`) that a file holds, and a kill may cost.


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

    def write(self, store: TokenStore, logits_of: Callable[[TokenStore], np.ndarray]) -> int:
        """Labels what is not labelled yet, a part at a time.

        Args:
            store: The split as the teacher's tokenizer sees it.
            logits_of: Gives [examples, outputs] float32 for a store.

        Returns:
            How many examples were labelled now.

        Raises:
            UserError: The cache cannot be written; what it has is kept.
        """
        labelled = 0
        items = len(store.item_offsets) - 1
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _save(self.folder / "uids.npy", np.asarray(store.uids))
            for first in range(0, items, PART):
                path = self._part(int(store.item_offsets[first]))
                if path.exists():
                    continue
                part = store.subset(np.arange(first, min(first + PART, items)))
                _save(path, logits_of(part))
                labelled += len(part)
        except OSError as error:
            raise UserError(f"cannot write {self.folder}: {error.strerror}") from error
        write_atomically(self.folder / "meta.json", json.dumps(self._meta, indent=2) + "\n")
        return labelled

    def read(self, uids: np.ndarray) -> np.ndarray:
        """The teacher's logits of some examples.

        Args:
            uids: [examples] str.

        Returns:
            [examples, outputs] float32.

        Raises:
            UserError: They are not there, or the cache has those of another teacher or other data.
        """
        if not (self.folder / "meta.json").is_file():
            raise UserError(self._missing())
        try:
            known = np.load(self.folder / "uids.npy", allow_pickle=False)
            parts = [np.load(path, allow_pickle=False) for path in self._parts()]
            logits = np.concatenate(parts)
            if len(logits) != len(known):
                raise ValueError(f"{len(logits)} rows for {len(known)} examples")
        except (OSError, ValueError, EOFError) as error:
            raise UserError(
                f"the soft targets {self.folder} are damaged ({error}); remove them and label again"
            ) from error
        rows = positions_of(uids, known)
        if (lacking := known[rows] != uids).any():
            raise UserError(
                f"the soft targets {self.folder} lack the example {uids[lacking][0]!r} of "
                f"{self._task.name}/{self._split}"
            )
        return logits[rows]

    def _part(self, first: int) -> Path:
        return self.folder / f"{first:08d}.npy"

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.npy"))

    def _missing(self) -> str:
        """Why there is nothing to read: what there is of the same task is of something else."""
        run, of = self._meta["run"], f"{self._task.name}/{self._split}"
        reason = "label with mtdnn_tf.distill --label_only first"
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
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        with partial.open("wb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
