"""The files of a run's checkpoints: found by their names, and put in place whole."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

LIST_FILE = "checkpoint"
PARTIAL = "partial"
_FILE = re.compile(r"ckpt-\d+\.(index|json|data-\d+-of-\d+)")


class CheckpointFolder:
    """A folder of checkpoints; the one with the highest number is the newest.

    ckpt-N.data-*   the tensors
    ckpt-N.json     the dev metrics of a best model
    ckpt-N.index    where each tensor is; put in place last, so a checkpoint with it is whole
    checkpoint      the list that TensorFlow's tools look for; it is written here and never read
    partial/        a checkpoint that is being written

    Args:
        path: The folder; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def newest_first(self) -> list[Path]:
        """The checkpoints' paths without the endings of their files."""
        found = [file.with_suffix("") for file in self._files() if file.suffix == ".index"]
        return sorted(found, key=number_of, reverse=True)

    @contextlib.contextmanager
    def written(self, number: int, keep: int, before: int | None = None) -> Iterator[Path]:
        """Yields the path to write a checkpoint to; puts it in place when the block ends well.

        Args:
            number: Its number. Newer ones are not of the run's present course and go.
            keep: How many checkpoints stay, this one included.
            before: The number of the one that the run went on from. Those between the two are
                damaged and go. By default it is the newest one below `number`.
        """
        partial = self.path / PARTIAL
        newest = number - 1 if before is None else min(before, number - 1)
        older = [path for path in self.newest_first() if number_of(path) <= newest]
        kept = [self.path / f"ckpt-{number}", *older[: keep - 1]]
        try:
            partial.mkdir(parents=True, exist_ok=True)
            yield partial / kept[0].name
            lines = [f'model_checkpoint_path: "{kept[0].name}"']
            lines += [f'all_model_checkpoint_paths: "{path.name}"' for path in reversed(kept)]
            (partial / LIST_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
            self._set_aside(number)
            order = {".index": 1, "": 2}
            for file in sorted(partial.iterdir(), key=lambda file: order.get(file.suffix, 0)):
                self._place(file)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        for file in self._files():
            if self.path / file.stem not in kept:
                file.unlink()

    def remove_partial(self) -> None:
        """Removes what a killed process was writing; under the run's lock."""
        shutil.rmtree(self.path / PARTIAL, ignore_errors=True)
        for folder in self.path.glob("ckpt-*_temp"):  # Of earlier versions.
            shutil.rmtree(folder)

    def _set_aside(self, number: int) -> None:
        """Copies a checkpoint that is to be written over to the next number, where it is whole."""
        old, copy = f"ckpt-{number}", f"ckpt-{number + 1}"
        index = self.path / f"{old}.index"
        if not index.exists():
            return
        files = self._files()
        for file in files:
            if file.stem == copy:
                file.unlink()
        for file in reversed(files):
            if file.stem == old:
                shutil.copyfile(file, file.with_stem(copy))
        index.unlink()  # The old index is not one of the new tensors.

    def _place(self, file: Path) -> None:
        file.replace(self.path / file.name)

    def _files(self) -> list[Path]:
        """Every file of a checkpoint, what makes it one before the rest."""
        files = self.path.iterdir() if self.path.is_dir() else ()
        found = [file for file in files if _FILE.fullmatch(file.name)]
        return sorted(found, key=lambda file: file.suffix != ".index")


def number_of(path: Path) -> int:
    """The number of a checkpoint."""
    return int(path.name.removeprefix("ckpt-"))
