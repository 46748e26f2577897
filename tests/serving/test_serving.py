"""The client against the local server, and against tensorflow_model_server where there is one."""

import asyncio
import json
import os
import shutil
import signal
import socket
import time
from itertools import chain
from pathlib import Path

import grpc
import numpy as np
import pytest
import requests
from harness.runs import error_line, run
from harness.servers import LOCAL, free_port, start
from harness.tasks import write_experiment
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import mtdnn_tf
from mtdnn_tf.errors import UserError
from mtdnn_tf.serving.client import Client
from mtdnn_tf.serving.export.saved_model import export
from mtdnn_tf.serving.local.rest_api import PAGE
from mtdnn_tf.serving.status import ServingError

TEXTS = ["The lamp is bright.", "", "Ünïcode – 東京 🎉", "the door is not sour . " * 30, "a"] * 15
PAIRS = list(zip(TEXTS, reversed(TEXTS), strict=True))
REAL = os.environ.get("TF_MODEL_SERVER") or shutil.which("tensorflow_model_server")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving")
    path = write_experiment(folder, training={"epochs": 1, "learning_rate": 0.01})
    done = run("train", f"--config={path}", f"--workdir={folder / 'run'}")
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def models(workdir, tmp_path_factory):
    """The folder of a model with one version."""
    return export(workdir, tmp_path_factory.mktemp("models") / "tiny").parent


@pytest.fixture(scope="module")
def loaded(workdir):
    return mtdnn_tf.load(workdir)


@pytest.fixture(scope="module", params=["local_server", "tensorflow_model_server"])
def served(request, models, tmp_path_factory):
    if request.param == "tensorflow_model_server" and not REAL:
        pytest.skip("no tensorflow_model_server on the PATH, nor named by $TF_MODEL_SERVER")
    command = LOCAL if request.param == "local_server" else [REAL]
    log = tmp_path_factory.mktemp("log") / "log"
    flags = [f"--model_base_path={models}", "--model_name=tiny", "--rest_api_enable_cors_support"]
    found = start([*command, *flags], log)
    yield found
    found.process.terminate()
    code = found.process.wait(60)
    assert code == 0 or request.param != "local_server", log.read_text()


@pytest.fixture(params=["grpc", "rest"])
def client(request, served):
    with served.client(request.param) as client:
        yield client


def assert_same(found, expected):
    assert [answer.label for answer in found] == [answer.label for answer in expected]
    for one, other in zip(found, expected, strict=True):
        if one.label is None:
            assert one.score == pytest.approx(other.score, abs=1e-5)
        else:
            assert list(one.probabilities) == list(other.probabilities)
            chances = list(one.probabilities.values())
            assert chances == pytest.approx(list(other.probabilities.values()), abs=1e-5)


def test_the_local_server_answers_while_it_loads(served, request):
    if request.node.callspec.params["served"] == "local_server":
        assert set(served.codes) == {503, 200}


@pytest.mark.parametrize(("task", "texts"), [("mood", TEXTS), ("same", PAIRS), ("near", PAIRS)])
def test_the_client_answers_as_the_model_in_memory(task, texts, client, loaded):
    assert len(texts) > 2 * client.batch_size
    assert_same(client.predict(task, texts), loaded.predict(task, texts))


def test_examples_of_all_tasks_are_answered_together(client, loaded):
    rows = [("mood", TEXTS[0]), ("near", PAIRS[1]), ("same", PAIRS[2]), ("mood", TEXTS[3])]
    expected = [loaded.predict(task, [example])[0] for task, example in rows]
    assert_same(client.predict_mixed(rows), expected)


def test_nothing_is_answered_with_nothing(client):
    assert client.predict("mood", []) == []


def test_answers_may_be_waited_for_later(client, loaded):
    futures = [client.predict_async("mood", TEXTS[i : i + 3]) for i in range(20)]
    for i, future in enumerate(futures):
        assert_same(future.result(60), loaded.predict("mood", TEXTS[i : i + 3]))

    async def both():
        waiting = [client.predict_async("same", PAIRS[:2]), client.predict_async("near", PAIRS[:2])]
        return await asyncio.gather(*map(asyncio.wrap_future, waiting))

    same, near = asyncio.run(both())
    assert_same(same, loaded.predict("same", PAIRS[:2]))
    assert_same(near, loaded.predict("near", PAIRS[:2]))


def test_a_signature_is_called_with_tensors(client):
    sentences = np.array([b"the lamp is warm .", b"x"], object)
    found = client.call("encode", {"sentence1": sentences}, outputs=["mean"])
    assert set(found) == {"mean"}
    assert found["mean"].shape == (2, 16)
    assert found["mean"].dtype == np.float32
    only = client.call("near", {"a": sentences, "b": sentences})
    assert set(only) == {"score"}


def test_signatures_and_versions_are_told(client):
    assert client.status() == {1: "AVAILABLE"}
    signatures = client.signatures()
    assert signatures["same"] == ["a", "b"]
    assert signatures["serving_default"] == ["sentence1", "sentence2", "task"]


MISTAKES = {
    "model": ({"model": "glue"}, "mood", "NOT_FOUND"),
    "version": ({"version": 7}, "mood", "NOT_FOUND"),
    "label": ({"label": "stable"}, "mood", "INVALID_ARGUMENT"),
    "task": ({}, "mod", "INVALID_ARGUMENT"),
}


@pytest.mark.parametrize("transport", ["grpc", "rest"])
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_and_the_next_request_answered(name, transport, served):
    options, task, code = MISTAKES[name]
    with served.client(transport, **options) as client, pytest.raises(ServingError) as caught:
        client.predict(task, ["a"])
    assert caught.value.code.name == code
    where = served.grpc if transport == "grpc" else served.rest
    assert str(caught.value).startswith(f"{where}, model '{options.get('model', 'tiny')}'")
    with served.client(transport) as client:
        assert len(client.predict("mood", ["a"])) == 1


@pytest.mark.parametrize(
    ("signature", "inputs", "grpc_code"),
    [
        ("moo", {"sentence": [b"a"]}, "FAILED_PRECONDITION"),
        ("mood", {"sentense": [b"a"]}, "INVALID_ARGUMENT"),
        ("mood", {"sentence": [b"a"], "more": [b"a"]}, "INVALID_ARGUMENT"),
        ("mood", {}, "INVALID_ARGUMENT"),
        ("mood", {"sentence": [1]}, "INVALID_ARGUMENT"),
        ("mood", {"sentence": [[b"a"]]}, "INVALID_ARGUMENT"),
        ("mood_tokens", {"token_ids": [[9, 9]]}, "INVALID_ARGUMENT"),
        ("same", {"a": [b"a"], "b": [b"a", b"b"]}, "INVALID_ARGUMENT"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(signature, inputs, grpc_code, served):
    arrays = {
        name: np.array(value, object if b"a" in np.ravel(value).tolist() else np.int32)
        for name, value in inputs.items()
    }
    with served.client() as client:
        with pytest.raises(ServingError, match=f"signature '{signature}': {grpc_code}: ") as caught:
            client.call(signature, arrays)
        assert caught.value.code.name == grpc_code
        assert "\n" not in str(caught.value)
        assert len(client.predict("mood", ["a"])) == 1


def ask(served, path, body=None, **kwargs):
    method = "GET" if body is None else "POST"
    response = requests.request(method, served.rest + path, data=body, timeout=60, **kwargs)
    return response.status_code, response.json()


PREDICT = "/v1/models/tiny:predict"


@pytest.mark.parametrize("path", ["/v1/models/tiny", "/v1/models/tiny/versions/1"])
def test_rows_and_columns_are_answered_in_kind(path, served):
    rows = {"signature_name": "mood", "instances": ["a", {"b64": "Yg=="}]}
    status, found = ask(served, f"{path}:predict", json.dumps(rows))
    assert status == 200
    assert [set(row) for row in found["predictions"]] == 2 * [
        {"label", "class_id", "probabilities", "labels"}
    ]
    columns = {"signature_name": "mood", "inputs": {"sentence": ["a", "b"]}}
    status, columns = ask(served, f"{path}:predict", json.dumps(columns))
    assert status == 200
    for name, column in columns["outputs"].items():
        assert column == [row[name] for row in found["predictions"]]
    status, only = ask(
        served,
        f"{path}:predict",
        json.dumps({"signature_name": "near", "instances": [{"a": "a", "b": "b"}]}),
    )
    assert status == 200
    assert isinstance(only["predictions"][0], float)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (PREDICT, "{", 400),
        (PREDICT, "[]", 400),
        (PREDICT, b"\xff", 400),
        (PREDICT, "{}", 400),
        (PREDICT, '{"signature_name": "moo", "instances": ["a"]}', 400),
        (PREDICT, '{"signature_name": "mood", "instances": [{"sentense": "a"}]}', 400),
        (PREDICT, '{"signature_name": "mood", "instances": [1]}', 400),
        (PREDICT, '{"signature_name": "mood", "inputs": {"a": ["a"]}}', 400),
        (PREDICT, '{"instances": [{"task": "x", "sentence1": "a", "sentence2": ""}]}', 400),
        ("/v1/models/glue:predict", '{"instances": ["a"]}', 404),
        ("/v1/models/tiny/versions/9:predict", '{"instances": ["a"]}', 404),
        ("/v1/models/tiny/versions/99999999999999999999:predict", '{"instances": ["a"]}', 400),
        ("/v1/models/tiny/labels/stable:predict", '{"instances": ["a"]}', 400),
        ("/v1/models/tiny:guess", "{}", 400),
        ("/v1/models/glue", None, 404),
        ("/v1/models/tiny/versions/9", None, 404),
        ("/v1/models/glue/metadata", None, 404),
        ("/v1/modles/tiny", None, 400),
    ],
)
def test_what_rest_cannot_answer_has_the_servers_status_and_an_error(path, body, status, served):
    found_status, tree = ask(served, path, body)
    assert found_status == status, tree
    assert set(tree) == {"error"}
    assert tree["error"]
    assert ask(served, "/v1/models/tiny")[0] == 200


def test_a_body_of_100_megabytes_is_answered_and_the_server_lives_on(served):
    status, tree = ask(served, PREDICT, b"[" + b"0," * 50_000_000 + b"0]")
    assert status == 400
    assert set(tree) == {"error"}
    assert ask(served, "/v1/models/tiny")[0] == 200


def test_the_command_answers_files_with_and_without_names(served, tmp_path, workdir):
    base = [f"--server={served.grpc}", "--model=tiny", "--task=same"]
    named, jsonl, bare = (tmp_path / name for name in ("named.tsv", "named.jsonl", "bare.tsv"))
    named.write_text("uid\tb\ta\nx1\tthe song is sad .\tthe lamp is warm .\n")
    bare.write_text("the lamp is warm .\tthe song is sad .\n")
    jsonl.write_text('{"uid": "x1", "a": "the lamp is warm .", "b": "the song is sad ."}\n')
    outputs = []
    for path, header in ((named, "auto"), (jsonl, "auto"), (bare, "false")):
        output = tmp_path / f"{path.name}.jsonl"
        flags = [f"--input={path}", f"--output={output}", f"--header={header}"]
        done = run("ask", *base, *flags)
        assert done.returncode == 0, done.stderr
        outputs.append(json.loads(output.read_text()))
    expected = tmp_path / "expected.jsonl"
    done = run(
        "predict", f"--workdir={workdir}", "--task=same", f"--input={jsonl}", f"--output={expected}"
    )
    assert done.returncode == 0, done.stderr
    expected = json.loads(expected.read_text())
    for found, uid in zip(outputs, ("x1", "x1", "0"), strict=True):
        assert found.keys() == expected.keys()
        assert found["uid"] == uid
        assert found["label"] == expected["label"]
        assert found["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--task=moood"], "the model has no task 'moood'; did you mean 'mood'?"),
        (["--task=mood", "--client_key=/none"], "expected both client_key and client_certificate"),
        (["--task=same"], "same takes a, b, which this row does not name: a | sentence"),
        (["--task=mood", "--version=4"], "NOT_FOUND"),
        (["--task=mood", "--version=1", "--label=x"], "expected a version or a label, found both"),
        (["--task=mood", "--root_certificates=/none"], "cannot read /none"),
    ],
)
def test_a_mistake_of_the_command_is_one_line(flags, message, served, tmp_path):
    path = tmp_path / "texts.tsv"
    path.write_text("a\tsentence\nx\ty\n")
    done = run(
        "ask",
        f"--server={served.grpc}",
        "--model=tiny",
        f"--input={path}",
        f"--output={tmp_path / 'out.tsv'}",
        *flags,
    )
    assert done.returncode == 1
    assert message in error_line(done)
    assert not (tmp_path / "out.tsv").exists()


@pytest.mark.parametrize(
    ("task", "texts", "message"),
    [
        ("mood", [1], "mood takes sentence; found 1"),
        ("mood", [None], "mood takes sentence; found None"),
        ("mood", [("a", "b")], "mood takes sentence; found ('a', 'b')"),
        ("same", ["a"], "same takes a, b; found 'a'"),
        ("same", [("a", 2)], "same takes a, b; found ('a', 2)"),
        ("same", [("a", "b", "c")], "same takes a, b; found ('a', 'b', 'c')"),
        ("mood", "a film", "texts: expected a list of examples, found one string: 'a film'"),
        ("mood", None, "texts: expected a list of examples, found None"),
    ],
)
def test_what_the_model_in_memory_refuses_the_client_refuses_too(
    task, texts, message, client, loaded
):
    for ask in (client.predict, loaded.predict):
        with pytest.raises(UserError) as caught:
            ask(task, texts)
        what, _, _ = message.partition("; found ")
        assert str(caught.value).startswith(what)
        if ask == client.predict:
            assert str(caught.value) == message


def test_text_that_is_no_unicode_is_answered(client):
    (answer,) = client.predict("mood", ["half of a pair: \ud83d"])
    assert answer.label in ("bad", "good")


def test_tensors_are_the_same_over_both_ways(served):
    inputs = {
        "task": np.array([b"mood", b"near"]),
        "sentence1": np.array([b"warm \xff", b"a"], object),
        "sentence2": np.array([b"", b"b"], object),
    }
    found = []
    for transport in ("grpc", "rest"):
        with served.client(transport) as client:
            found.append(client.call("serving_default", inputs))
    for name, value in found[0].items():
        assert value.dtype == found[1][name].dtype
        assert value.tolist() == found[1][name].tolist()


def test_an_unknown_task_in_a_batch_is_told_by_the_server(client):
    inputs = {name: np.array([b"mod"], object) for name in ("task", "sentence1", "sentence2")}
    with pytest.raises(ServingError, match="expected one of mood, near, same") as caught:
        client.call("serving_default", inputs)
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_server_that_is_not_there_is_told(scheme):
    server = f"{scheme}127.0.0.1:{free_port()}"
    client = Client(server, attempts=2)
    with client, pytest.raises(ServingError, match=f"{server}, model 'default'") as caught:
        client.predict("mood", ["a"])
    assert caught.value.code == grpc.StatusCode.UNAVAILABLE


@pytest.mark.long
def test_a_new_version_is_served_without_a_failed_request(models, tmp_path):
    """Requests go on while a version appears and the old one is given up."""
    models = shutil.copytree(models, tmp_path / "tiny")
    command = [*LOCAL, f"--model_base_path={models}", "--model_name=tiny"]
    served = start([*command, "--file_system_poll_wait_seconds=0.2"], tmp_path / "log")
    with served.client() as client:
        shutil.copytree(models / "1", tmp_path / "copy")
        waiting = []
        (tmp_path / "copy").rename(models / "2")
        deadline = time.monotonic() + 120
        while client.status() != {2: "AVAILABLE", 1: "END"}:
            assert time.monotonic() < deadline, client.status()
            waiting += [client.predict_async("mood", TEXTS[:3]) for _ in range(4)]
            waiting[-1].result(60)
            time.sleep(0.2)
        waiting.append(client.predict_async("mood", TEXTS[:3]))
        answers = [future.result(60) for future in waiting]
    assert len(answers) > 4
    for answer in answers:
        assert_same(answer, answers[0])
    # A connection that says nothing does not hold the server up for ever.
    host, port = served.rest.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))):
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(180) == 0
    log = (tmp_path / "log").read_text()
    assert "not tensorflow_model_server" in log
    assert log.index("version 2: loaded") < log.index("version 1: unloaded") < log.index("stopping")


def test_outputs_that_there_are_not_are_told(client):
    with pytest.raises(ServingError, match="alias not found in signature: men ") as caught:
        client.call("encode", {"sentence1": ["a"]}, ["men"])
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.long
def test_labels_of_the_config_choose_the_version(models, workdir, tmp_path):
    """The file that `server_config` writes; version 2 answers a little otherwise."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "1").symlink_to(models / "1")
    export(workdir, folder, precision="bfloat16")
    flags = [f"--model_base_path={folder}", f"--output_dir={tmp_path / 'config'}"]
    done = run("server_config", *flags, "--stable=1", "--canary=2")
    assert done.returncode == 0, done.stderr
    config = f"--model_config_file={tmp_path / 'config/models.config'}"
    served = start([*LOCAL, config], tmp_path / "log")
    try:
        for transport in ("grpc", "rest"):
            answers = []
            for chosen in (
                {"label": "stable"},
                {"version": 1},
                {"label": "canary"},
                {"version": 2},
            ):
                with served.client(transport, **chosen) as client:
                    answers.append(client.predict("mood", ["the song is sad ."])[0].probabilities)
            assert answers[0] == answers[1] != answers[2] == answers[3]
    finally:
        served.process.terminate()
        served.process.wait(60)
    done = run("server_config", *flags, "--stable=0")
    assert error_line(done).startswith("error: --stable: ")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model_base_path=/none"], "--model_base_path: there is no folder /none"),
        (["--model_config_file=/none"], "cannot read /none: No such file or directory"),
        (["--model_base_path={folder}", "--port={taken}"], "cannot listen at 127.0.0.1:{taken}"),
        (
            ["--model_base_path={folder}", "--port=0", "--rest_api_port={taken}"],
            "cannot listen at 127.0.0.1:{taken}: Address already in use",
        ),
    ],
)
def test_a_server_that_cannot_start_says_why(flags, message, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        names = {"folder": str(tmp_path), "taken": listener.getsockname()[1]}
        done = run("serve", *(flag.format(**names) for flag in flags))
    assert done.returncode == 1
    assert error_line(done).startswith("error: " + message.format(**names))


class Page:
    """What a person sees of the page, and does."""

    def __init__(self, browser, url):
        self.browser = browser
        browser.get(url)
        self.wait(lambda: self.status != "asking for the tasks")

    def wait(self, condition):
        WebDriverWait(self.browser, 60).until(lambda _: condition())

    def one(self, name):
        return self.browser.find_element(By.ID, name)

    @property
    def status(self):
        return self.one("status").text

    @property
    def tasks(self):
        return {box.get_attribute("value"): box for box in self.all("#tasks input")}

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def ask(self, one, two=""):
        for name, text in (("sentence1", one), ("sentence2", two)):
            self.one(name).clear()
            self.one(name).send_keys(text)
        self.one("ask").click()
        self.wait(lambda: self.status != "asking")

    def answers(self):
        """Task name to the lines of its card."""
        return {
            card.get_attribute("data-task"): card.text.split("\n") for card in self.all("article")
        }


@pytest.fixture(params=["local_server's own", "of another origin"])
def page(request, served, browser):
    url = f"{PAGE.as_uri()}?server={served.rest}&model=tiny"
    if request.param == "local_server's own":
        if "tensorflow_model_server" in Path(served.process.args[0]).name:
            pytest.skip("tensorflow_model_server has no page of its own")
        url = f"{served.rest}/"
    page = Page(browser, url)
    yield page
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def shown(prediction):
    """The lines of a card for a prediction, without the task's name."""
    if prediction.label is None:
        return [f"{prediction.score:.3f}", "a score"]
    rows = ((label, f"{100 * p:.1f} %") for label, p in prediction.probabilities.items())
    return [prediction.label, *chain.from_iterable(rows)]


def test_a_person_sees_the_answers_of_the_tasks_over_a_sentence(page, loaded):
    assert set(page.tasks) == {"mood", "same", "near"}
    page.ask("the lamp is warm .")
    expected = {"mood": ["mood", *shown(loaded.predict("mood", ["the lamp is warm ."])[0])]}
    assert page.answers() == expected
    assert page.status.startswith("1 task in one pass, ")
    (best,) = page.all(".best .bar")
    assert float(best.value_of_css_property("width")[:-2]) > 0


def test_a_person_sees_the_answers_of_the_tasks_over_a_pair(page, loaded):
    pair = ("the lamp is warm .", "the 🎉 is sad .")
    page.ask(pair[0])
    page.browser.execute_script("arguments[0].value = arguments[1]", page.one("sentence2"), pair[1])
    page.one("ask").click()
    page.wait(lambda: page.status.startswith("2 tasks in one pass"))
    assert page.answers() == {
        task: [task, *shown(loaded.predict(task, [pair])[0])] for task in ("near", "same")
    }
    page.tasks["near"].click()
    page.one("ask").click()
    page.wait(lambda: page.status.startswith("1 task in one pass"))
    assert list(page.answers()) == ["same"]


def test_a_person_is_told_what_is_missing(page):
    page.tasks["mood"].click()
    page.ask("the lamp is warm .")
    assert page.status == "choose a task over one sentence, or give a second sentence"


def test_a_person_is_told_of_an_unknown_model_and_may_name_another(served, browser):
    page = Page(browser, f"{PAGE.as_uri()}?server={served.rest}&model=glue")
    assert page.status == "Servable not found for request: Latest(glue)"
    assert not page.one("ask").is_enabled()
    page.one("model").find_element(By.XPATH, "ancestor::details").click()
    page.one("model").clear()
    page.one("model").send_keys("tiny/versions/1\n")
    page.wait(lambda: page.one("ask").is_enabled())
    assert set(page.tasks) == {"mood", "same", "near"}
    browser.get_log("browser")  # The 404 of before.


def test_the_page_needs_nothing_from_elsewhere(page, served):
    page.ask("the lamp is warm .")
    script = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    loaded = page.browser.execute_script(script)
    assert loaded
    assert all(name.startswith((f"{served.rest}/v1/", "data:")) for name in loaded), loaded
