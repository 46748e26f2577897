"""The versions of models that a server answers for, loaded and unloaded as folders come and go."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from absl import logging
from tensorflow_serving.apis.get_model_status_pb2 import (
    GetModelStatusResponse,
    ModelVersionStatus,
)
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from mtdnn_tf.errors import UserError
from mtdnn_tf.serving.local.servable import Servable
from mtdnn_tf.serving.status import LOADING, ServingError
from mtdnn_tf.serving.versions import versions

State = ModelVersionStatus.State


@dataclass
class _Version:
    """What is known of a version: its state, and the loaded model while there is one."""

    state: int = State.LOADING
    servable: Servable | None = None
    users: int = 0
    error: str = ""
    # When its files were last changed: one that could not be loaded is tried again after a change.
    changed: float = 0.0


@dataclass
class _Model:
    """A model of the configuration, and whether its folder was looked through once."""

    config: ModelConfig
    versions: dict[int, _Version] = field(default_factory=dict)
    polled: bool = False

    def available(self) -> list[int]:
        return [n for n, version in self.versions.items() if version.state == State.AVAILABLE]

    def is_loading(self, number: int = 0) -> bool:
        """Whether a version that is not available, or for 0 any, may still become so."""
        return not self.polled or any(
            version.state == State.LOADING and number in (0, n)
            for n, version in self.versions.items()
        )


class ModelManager:
    """Keeps the versions loaded that the configuration asks for.

    A new version is loaded and warmed up before an old one is given up, and an old one is closed when
    the last request that uses it is answered, so that no request fails when versions change.

    Args:
        configs: Gives the models that are to be served; asked at every `poll`.
    """

    def __init__(self, configs: Callable[[], Sequence[ModelConfig]]) -> None:
        self._configs = configs
        self._models: dict[str, _Model] = {}
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._poller: threading.Thread | None = None

    def configure(self) -> set[str]:
        """Reads the configuration; models that are new in it are loading from now on.

        Returns:
            The names of its models.

        Raises:
            UserError: The configuration is wrong.
        """
        configs = {config.name: config for config in self._configs()}
        with self._changed:
            for name, config in configs.items():
                self._models.setdefault(name, _Model(config)).config = config
        return set(configs)

    def poll(self) -> None:
        """Loads what has appeared and unloads what is no longer asked for."""
        names = self.configure()
        for name, model in list(self._models.items()):
            wanted = _wanted(model.config) if name in names else []
            for number in wanted:
                self._load(name, model, number)
            model.polled = True
            available = model.available()
            if not wanted or set(available) & set(wanted):
                for number in set(available) - set(wanted):
                    self._unload(name, model, number)

    def start(self, seconds: float) -> None:
        """Polls now, and then again and again in a thread of its own.

        Args:
            seconds: Pause between two polls.

        Raises:
            UserError: The configuration is wrong. Later mistakes are logged, and what runs stays.
        """
        self.poll()
        self._poller = threading.Thread(target=self._poll_forever, args=(seconds,), daemon=True)
        self._poller.start()

    def _poll_forever(self, seconds: float) -> None:
        while not self._stopped.wait(seconds):
            try:
                self.poll()
            except (UserError, OSError) as error:
                logging.error("%s", error)
            except Exception:  # Whatever it was, the next version may be better.
                logging.exception("looking for new versions")

    def stop(self) -> None:
        """Ends the polling and frees all models, each when its requests are answered."""
        self._stopped.set()
        if self._poller:
            self._poller.join()
        for name, model in self._models.items():
            for number in model.available():
                self._unload(name, model, number)

    def _load(self, name: str, model: _Model, number: int) -> None:
        folder = Path(model.config.base_path) / str(number)
        try:
            # Of all files: those of a version that is being copied come after its folder.
            changed = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
        except OSError:
            return  # It has gone since it was listed.
        with self._changed:
            known = model.versions.get(number)
            is_known_bad = known and known.error and known.changed == changed
            if is_known_bad or (known and known.state == State.AVAILABLE):
                return
            version = model.versions[number] = _Version(changed=changed)
        try:
            servable = _open(folder)
        except UserError as error:
            logging.error("%s, version %d: %s", name, number, error)
            with self._changed:
                version.state, version.error = State.END, str(error)
            return
        with self._changed:
            version.servable, version.state = servable, State.AVAILABLE
        logging.info("%s, version %d: loaded", name, number)

    def _unload(self, name: str, model: _Model, number: int) -> None:
        version = model.versions[number]
        with self._changed:
            version.state = State.UNLOADING
            self._changed.wait_for(lambda: not version.users)
            servable, version.servable = version.servable, None
        if servable:
            servable.close()
        logging.info("%s, version %d: unloaded", name, number)
        with self._changed:
            version.state = State.END

    @contextmanager
    def using(self, spec: ModelSpec) -> Iterator[tuple[int, Servable]]:
        """The version that a request asks for, which stays loaded until the block ends.

        Yields:
            Its number and the loaded model.

        Raises:
            ServingError: There is no such model, version or label, or it is still loading.
        """
        with self._changed:
            number, version = self._find(spec)
            version.users += 1
        try:
            assert version.servable is not None  # It is AVAILABLE, and has a user.
            yield number, version.servable
        finally:
            with self._changed:
                version.users -= 1
                self._changed.notify_all()

    def _find(self, spec: ModelSpec) -> tuple[int, _Version]:
        if not spec.name:
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        model = self._models.get(spec.name)
        available = model.available() if model else []
        choice = spec.WhichOneof("version_choice")
        asked = f"Specific({spec.name}, {spec.version.value})"
        number = spec.version.value
        if choice == "version_label":
            labels = model.config.version_labels if model else {}
            if spec.version_label not in labels:
                raise ServingError(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"Unrecognized servable version label: {spec.version_label}",
                )
            number = labels[spec.version_label]
            asked = f"Specific({spec.name}, {number})"
        elif choice is None:
            number, asked = max(available, default=0), f"Latest({spec.name})"
        if model and number in available:
            return number, model.versions[number]
        if model and model.is_loading(number):
            raise _still_loading(spec)
        raise ServingError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {asked}")

    def status(self, spec: ModelSpec) -> GetModelStatusResponse:
        """The states of a model's versions, the newest first, or of the one that is asked for.

        Raises:
            ServingError: There is no such model, version or label, or the versions that were there at
                the start are still loading.
        """
        with self._changed:
            if not spec.name:
                raise ServingError(
                    grpc.StatusCode.INVALID_ARGUMENT, "Missing model name in request."
                )
            model = self._models.get(spec.name)
            if model and not model.polled:
                raise _still_loading(spec)
            if not model or not model.versions:
                raise ServingError(
                    grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}"
                )
            choice = spec.WhichOneof("version_choice")
            chosen = sorted(model.versions, reverse=True)
            if choice == "version_label":
                chosen = [self._find(spec)[0]]
            elif choice == "version":
                chosen = [spec.version.value]
            if chosen[0] not in model.versions:
                raise ServingError(
                    grpc.StatusCode.NOT_FOUND,
                    f"Could not find version {chosen[0]} of model {spec.name}",
                )
            response = GetModelStatusResponse()
            for number in chosen:
                version = model.versions[number]
                status = response.model_version_status.add(version=number, state=version.state)
                if version.error:
                    status.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
                    status.status.error_message = version.error
                else:
                    status.status.error_code = grpc.StatusCode.OK.value[0]
            return response


def _still_loading(spec: ModelSpec) -> ServingError:
    return ServingError(grpc.StatusCode.UNAVAILABLE, f"model {spec.name!r} {LOADING}")


def _open(folder: Path) -> Servable:
    """Loads a version and warms it up.

    Raises:
        UserError: It cannot be loaded, or its warm-up is not answered.
    """
    servable = Servable(folder)
    try:
        servable.warm_up(folder)
    except BaseException:
        servable.close()
        raise
    return servable


def _wanted(config: ModelConfig) -> list[int]:
    """The versions of a model's folder that its policy asks for."""
    found = versions(Path(config.base_path))
    policy = config.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return found
    if choice == "specific":
        return [number for number in found if number in policy.specific.versions]
    return found[-(policy.latest.num_versions or 1) :]
