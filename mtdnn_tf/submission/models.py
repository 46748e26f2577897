"""What answers the tasks of GLUE: a SavedModel, a model server, or run directories."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Protocol

import numpy as np

from mtdnn_tf.errors import UserError, did_you_mean
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.serving.client import Client
from mtdnn_tf.serving.export.saved_model import export
from mtdnn_tf.serving.local.servable import Servable
from mtdnn_tf.serving.versions import versions
from mtdnn_tf.submission.formats import GLUE_FILES
from mtdnn_tf.tasks.spec import TaskSpec

SAVED_MODEL_FILE = "saved_model.pb"
SERVER_THREADS = 8  # Requests that are under way at once.
PROBE = b"The lamp in the hall was still burning when the last of the guests had left."
GLUE_TASKS = frozenset(of_one.task for of_one in GLUE_FILES)
LOCAL_THREADS = 2  # One batch is tokenised while another is in the encoder.


class Call(Protocol):
    """Answers one batch."""

    def __call__(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] = ()
    ) -> dict[str, np.ndarray]:
        """Returns the outputs that are wanted, all with an example a row."""


@dataclass(frozen=True)
class Model:
    """A model that answers tasks.

    Attributes:
        name: What a person calls it.
        identity: Another one for a model that answers otherwise.
        fields: Task to the names of its signature's inputs.
        labels: Task to the names that it answers, in its order; none for a score.
        call: Answers a batch.
        threads: How many batches it is given at once.
    """

    name: str
    identity: str
    fields: Mapping[str, Sequence[str]]
    labels: Mapping[str, Sequence[str]]
    call: Call
    threads: int


Models = Mapping[str, Model]  # Task to what answers it.


@contextmanager
def of_saved_model(path: Path) -> Iterator[Models]:
    """The tasks of a SavedModel.

    Args:
        path: The folder of a version, or the model's folder, whose newest version is taken.

    Raises:
        UserError: There is no SavedModel.
    """
    if not (path / SAVED_MODEL_FILE).is_file():
        found = versions(path)
        if not found:
            raise UserError(f"{path} is no SavedModel: it has no {SAVED_MODEL_FILE} and no version")
        path = path / str(found[-1])
    with closing(Servable(path)) as servable:
        fields = _tasks({key: list(value.inputs) for key, value in servable.signatures.items()})
        labels = labels_of(probed(fields, servable.run))
        model = Model(str(path), _hash(path), fields, labels, servable.run, LOCAL_THREADS)
        yield dict.fromkeys(fields, model)


@contextmanager
def of_server(address: str, model: str, timeout: float) -> Iterator[Models]:
    """The tasks of the newest version of a model on a server, which is asked to the end.

    Args:
        address: `host:port` for gRPC, `http://host:port` for REST.
        model: What the server calls the model.
        timeout: Deadline of a request in seconds.

    Raises:
        ServingError: The server does not answer, or has no such model.
        UserError: It has no version that is ready.
    """
    with Client(address, model, timeout=timeout) as client:
        ready = [version for version, state in client.status().items() if state == "AVAILABLE"]
    if not ready:
        raise UserError(f"{address}: no version of model {model!r} is AVAILABLE")
    with Client(address, model, version=max(ready), timeout=timeout) as client:
        name = f"{address}, model {model!r}, version {max(ready)}"
        fields = _tasks(client.signatures())
        answers = probed(fields, client.call)
        identity = f"model {model!r}, version {max(ready)}, {hash_of_answers(answers)}"
        labels = labels_of(answers)
        found = Model(name, identity, fields, labels, client.call, SERVER_THREADS)
        yield dict.fromkeys(fields, found)


@contextmanager
def of_runs(workdirs: Sequence[str], task_runs: Mapping[str, str]) -> Iterator[Models]:
    """The tasks of runs, each of the run whose best checkpoint has the highest dev score for it.

    One run is in memory at a time, so all batches for one have to be answered before another is asked.

    Args:
        workdirs: The run directories.
        task_runs: Task to the run directory that answers it, whatever the scores.

    Raises:
        UserError: There is no such run, it has no checkpoint, or a run does not have its task.
    """
    chosen = _best_runs(workdirs) | dict(task_runs)
    for task, workdir in task_runs.items():
        known = [head.name for head in RunDirectory(workdir).read_experiment().heads]
        if task not in known:
            raise UserError(f"the run {workdir} has no task {task!r}{did_you_mean(task, known)}")
    with TemporaryDirectory() as folder, closing(_LastAsked()) as loaded:
        models: dict[str, Model] = {}
        for number, workdir in enumerate(dict.fromkeys(chosen.values()), start=1):
            # The path that every submission takes, so that all say the same.
            exported = export(workdir, Path(folder) / str(number))
            run = RunDirectory(workdir)
            identity = _hash(run.checkpoints / "best") + _hash(run.config_file)
            tasks = run.read_experiment().tasks
            fields = {name: task.fields for name, task in tasks.items()}
            labels = {name: answered_labels(task) for name, task in tasks.items()}
            call = partial(loaded.call, exported)
            model = Model(workdir, identity, fields, labels, call, LOCAL_THREADS)
            mine = {task for task in fields if chosen.get(task) == workdir}
            models |= dict.fromkeys(mine, model)
        yield models


class _LastAsked:
    """Exported models, of which only the one that was asked last is in memory."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._folder: Path | None = None
        self._servable: Servable | None = None
        self._closed = False

    def call(
        self,
        folder: Path,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        """Answers one batch, see `Call`; nobody may be waiting for another model."""
        with self._lock:
            if self._closed:  # By Ctrl-C, with batches still waiting.
                raise RuntimeError(f"the model of {folder} was closed")
            if self._servable is None or folder != self._folder:
                self._free()
                self._servable, self._folder = Servable(folder), folder
            servable = self._servable
        return servable.run(signature, inputs, outputs)

    def close(self) -> None:
        """Frees the memory; nothing is answered any more."""
        with self._lock:
            self._closed = True
            self._free()

    def _free(self) -> None:
        if self._servable:
            self._servable.close()
        self._servable = None


def _best_runs(workdirs: Sequence[str]) -> dict[str, str]:
    """Task to the run with the highest dev score; of equals, the first."""
    best: dict[str, tuple[float, str]] = {}
    for workdir in workdirs:
        run = RunDirectory(workdir)
        heads = run.read_experiment().heads
        scores = run.best_dev()["scores"] if run.metrics.read("dev") else {}
        for task in heads:
            if task.name not in GLUE_TASKS:
                continue
            score = scores.get(task.name, -math.inf)  # It may have no dev split.
            if task.name not in best or score > best[task.name][0]:
                best[task.name] = (score, workdir)
    return {task: workdir for task, (_, workdir) in best.items()}


def _tasks(signatures: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Of all signatures those of tasks, which have one for token ids as well."""
    return {name: inputs for name, inputs in signatures.items() if f"{name}_tokens" in signatures}


def answered_labels(task: TaskSpec) -> Sequence[str]:
    """The names that a task answers, none for a score."""
    return task.labels if task.kind.has_classes else ()


def probed(fields: Mapping[str, Sequence[str]], call: Call) -> dict[str, dict[str, np.ndarray]]:
    """What every task answers to one text."""
    text = np.array([PROBE], object)
    return {task: call(task, dict.fromkeys(names, text)) for task, names in fields.items()}


def labels_of(answers: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Sequence[str]]:
    """Task to the names that it answers, none for a score, by what it answered."""
    return {
        task: [name.decode() for name in answered["labels"][0]] if "labels" in answered else ()
        for task, answered in answers.items()
    }


def hash_of_answers(answers: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """SHA-256 of what was answered, to four digits.

    A server says no more of a model than its version, and two models can have the same.
    """
    digest = hashlib.sha256()
    for task, answered in sorted(answers.items()):
        for name, value in sorted(answered.items()):
            rounded = value.round(4) if value.dtype.kind == "f" else value
            digest.update(f"{task} {name} {rounded.tolist()}".encode())
    return digest.hexdigest()


def _hash(path: Path) -> str:
    """SHA-256 of a file, or of all files in a folder."""
    digest = hashlib.sha256()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files:
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()
