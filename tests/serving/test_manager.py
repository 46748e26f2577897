"""Which versions a server holds, without TensorFlow: the models are stand-ins."""

import threading
import time
from contextlib import ExitStack
from functools import partial
from typing import ClassVar

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from mtdnn_tf.errors import UserError
from mtdnn_tf.serving.local import manager as manager_module
from mtdnn_tf.serving.local.manager import ModelManager
from mtdnn_tf.serving.status import ServingError


class StandIn:
    """A model that is a file, and knows whether it is used after it was closed."""

    opened: ClassVar[list["StandIn"]] = []

    def __init__(self, folder):
        if not (folder / "model").exists() or not list(folder.glob("parts/*")):
            raise UserError(f"cannot load the model in {folder}: it is broken")
        self.name, self.closed = folder.name, False
        StandIn.opened.append(self)

    def warm_up(self, folder):
        if (folder / "model").read_text() == "odd":
            raise RuntimeError("nobody has thought of that")
        if (folder / "model").read_text() == "cold":
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, "the warm-up was not answered")

    def run(self):
        assert not self.closed
        return self.name

    def close(self):
        assert not self.closed
        self.closed = True


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch):
    StandIn.opened = []
    monkeypatch.setattr(manager_module, "Servable", StandIn)


def write(folder, version, text="good"):
    (folder / str(version) / "parts").mkdir(parents=True, exist_ok=True)
    (folder / str(version) / "parts" / "one").touch()
    (folder / str(version) / "model").write_text(text)


def managed(tmp_path, config=""):
    """A manager of one model, and the configuration it looks at."""
    model = ModelConfig(name="glue", base_path=str(tmp_path))
    text_format.Parse(config, model)
    return ModelManager(lambda: [model]), model


def spec(version=None, label=None, name="glue"):
    found = ModelSpec(name=name)
    if version is not None:
        found.version.value = version
    if label is not None:
        found.version_label = label
    return found


def answer(manager, **kwargs):
    with manager.using(spec(**kwargs)) as (number, servable):
        assert servable.run() == str(number)
        return number


def states(manager):
    return {
        status.version: manager_module.State.Name(status.state)
        for status in manager.status(spec()).model_version_status
    }


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("", [10]),
        ("model_version_policy { latest { num_versions: 2 } }", [2, 10]),
        ("model_version_policy { all { } }", [1, 2, 10]),
        ("model_version_policy { specific { versions: 1 versions: 2 versions: 5 } }", [1, 2]),
    ],
)
def test_the_policy_says_which_versions_are_served(policy, expected, tmp_path):
    for version in (1, 2, 10):
        write(tmp_path, version)
    (tmp_path / ".partial-11").mkdir()
    (tmp_path / "README").touch()
    manager, _ = managed(tmp_path, policy)
    manager.poll()
    assert states(manager) == dict.fromkeys(expected, "AVAILABLE")
    assert answer(manager) == max(expected)
    for version in expected:
        assert answer(manager, version=version) == version
    with pytest.raises(ServingError, match=r"Servable not found for request: Specific\(glue, 99\)"):
        answer(manager, version=99)


def test_labels_lead_to_versions_and_may_be_moved(tmp_path):
    write(tmp_path, 1)
    write(tmp_path, 2)
    config = "model_version_policy { all { } } version_labels { key: 'stable' value: 1 }"
    manager, model = managed(tmp_path, config)
    manager.poll()
    assert answer(manager, label="stable") == 1
    with pytest.raises(ServingError, match="Unrecognized servable version label: canary") as caught:
        answer(manager, label="canary")
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT
    model.version_labels["stable"] = 2
    model.version_labels["canary"] = 3
    manager.poll()
    assert answer(manager, label="stable") == 2
    with pytest.raises(ServingError, match=r"Specific\(glue, 3\)"):
        answer(manager, label="canary")
    assert [s.version for s in manager.status(spec(label="stable")).model_version_status] == [2]


def test_a_version_that_cannot_be_loaded_does_not_push_out_the_one_that_is(tmp_path):
    write(tmp_path, 1)
    manager, _ = managed(tmp_path)
    manager.poll()
    (tmp_path / "2").mkdir()
    for _ in range(3):
        manager.poll()
    assert states(manager) == {2: "END", 1: "AVAILABLE"}
    status = manager.status(spec(version=2)).model_version_status[0].status
    assert status.error_code == grpc.StatusCode.UNKNOWN.value[0]
    assert status.error_message.endswith("it is broken")
    assert answer(manager) == 1
    write(tmp_path, 2)  # Mended: the folder has changed.
    manager.poll()
    assert states(manager) == {2: "AVAILABLE", 1: "END"}


def test_a_version_that_is_still_being_copied_is_served_when_it_is_whole(tmp_path):
    (tmp_path / "1/parts").mkdir(parents=True)
    (tmp_path / "1/model").write_text("good")
    manager, _ = managed(tmp_path)
    manager.poll()
    assert states(manager) == {1: "END"}
    time.sleep(0.02)  # So that the time of the change is another.
    (tmp_path / "1/parts/one").touch()  # Which leaves the version's own folder as it was.
    manager.poll()
    assert states(manager) == {1: "AVAILABLE"}


def test_whatever_is_wrong_with_a_version_the_next_one_is_looked_for(tmp_path):
    write(tmp_path, 1)
    manager, _ = managed(tmp_path)
    manager.start(0.001)
    write(tmp_path, 2, "odd")
    deadline = time.monotonic() + 30
    while len(StandIn.opened) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert answer(manager) == 1
    write(tmp_path, 3)
    while states(manager).get(3) != "AVAILABLE":
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert answer(manager) == 3
    manager.stop()
    assert all(model.closed for model in StandIn.opened)


def test_a_version_whose_warm_up_fails_is_not_served_and_not_kept(tmp_path):
    write(tmp_path, 1, "cold")
    manager, _ = managed(tmp_path)
    manager.poll()
    manager.poll()
    assert states(manager) == {1: "END"}
    assert [model.closed for model in StandIn.opened] == [True]
    with pytest.raises(ServingError, match=r"Latest\(glue\)"):
        answer(manager)


def test_going_back_to_an_older_version_loads_it_again(tmp_path):
    write(tmp_path, 1)
    write(tmp_path, 2)
    manager, model = managed(tmp_path)
    manager.poll()
    assert answer(manager) == 2
    model.model_version_policy.specific.versions.append(1)
    manager.poll()
    assert states(manager) == {2: "END", 1: "AVAILABLE"}
    assert answer(manager) == 1


def test_a_model_that_is_taken_out_of_the_configuration_is_given_up(tmp_path):
    write(tmp_path, 1)
    models = [ModelConfig(name="glue", base_path=str(tmp_path))]
    manager = ModelManager(lambda: models)
    manager.poll()
    assert answer(manager) == 1
    models.clear()
    manager.poll()
    with pytest.raises(ServingError, match="Servable not found"):
        answer(manager)
    assert StandIn.opened[0].closed


def test_requests_find_an_open_model_however_versions_come_and_go(tmp_path):
    write(tmp_path, 1)
    manager, _ = managed(tmp_path)
    manager.start(0.001)
    failed, done = [], threading.Event()

    def ask():
        while not done.is_set():
            try:
                answer(manager)
            except Exception as error:
                failed.append(error)

    askers = [threading.Thread(target=ask) for _ in range(8)]
    for asker in askers:
        asker.start()
    for version in range(2, 12):
        write(tmp_path, version)
        deadline = time.monotonic() + 30
        while states(manager).get(version) != "AVAILABLE":
            assert time.monotonic() < deadline
            time.sleep(0.001)
    done.set()
    for asker in askers:
        asker.join()
    manager.stop()
    assert failed == []
    assert len(StandIn.opened) == 11
    assert all(model.closed for model in StandIn.opened)


def test_an_old_version_is_closed_when_its_last_request_is_answered(tmp_path):
    write(tmp_path, 1)
    manager, _ = managed(tmp_path)
    manager.poll()
    with ExitStack() as stack:
        _, servable = stack.enter_context(manager.using(spec()))
        write(tmp_path, 2)
        polling = threading.Thread(target=manager.poll)
        polling.start()
        deadline = time.monotonic() + 30
        while states(manager)[1] != "UNLOADING":
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert answer(manager) == 2  # The others are not held up.
        assert not servable.closed
    polling.join()
    assert servable.closed


def test_what_is_not_there_is_not_found(tmp_path):
    manager, _ = managed(tmp_path)
    manager.poll()
    for ask in (manager.status, lambda s: answer(manager, name=s.name)):
        with pytest.raises(ServingError) as caught:
            ask(spec(name="other"))
        assert caught.value.code == grpc.StatusCode.NOT_FOUND
        with pytest.raises(ServingError) as caught:
            ask(spec(name=""))
        assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


def test_a_model_is_said_to_be_loading_until_it_is_there(tmp_path, monkeypatch):
    write(tmp_path, 1)
    write(tmp_path, 2)
    manager, _ = managed(tmp_path, "model_version_policy { all { } }")
    said = []

    def ask():
        for asked in (
            partial(answer, manager),
            partial(answer, manager, version=2),
            partial(states, manager),
        ):
            with pytest.raises(ServingError) as caught:
                asked()
            said.append(str(caught.value))
            assert caught.value.code == grpc.StatusCode.UNAVAILABLE
            assert caught.value.is_loading
        with pytest.raises(ServingError, match="Servable not found"):
            answer(manager, name="other")

    manager.configure()
    ask()
    monkeypatch.setattr(StandIn, "warm_up", lambda self, _: self.name == "1" and ask())
    manager.poll()
    assert set(said) == {"model 'glue' is still loading"}
    assert len(said) == 6
    assert states(manager) == {1: "AVAILABLE", 2: "AVAILABLE"}
    with pytest.raises(ServingError, match=r"Specific\(glue, 3\)"):
        answer(manager, version=3)
