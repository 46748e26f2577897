"""Which strategy the flags and the environment ask for, and what is said when it cannot be had."""

import json

import pytest
import tensorflow as tf
from harness.runs import error_line, run
from harness.tasks import write_experiment

from mtdnn_tf.distribution.cluster import parse_tf_config
from mtdnn_tf.distribution.strategy import build_strategy, slurm_cluster
from mtdnn_tf.errors import UserError

TWO = ["one:2222", "two:2222"]


def tf_config(cluster, **task):
    return json.dumps({"cluster": cluster, "task": task, "environment": "cloud"})


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("TF_CONFIG", "TPU_NAME", "SLURMD_NODENAME"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_the_workers_are_read_with_the_chief_first():
    cluster = parse_tf_config(
        tf_config({"worker": TWO, "chief": ["zero:2222"]}, type="worker", index=1)
    )
    assert cluster.addresses == ["zero:2222", *TWO]
    assert cluster.address == "two:2222"


@pytest.mark.parametrize("text", ["", " ", "{}"])
def test_an_empty_tf_config_is_no_cluster(text):
    assert parse_tf_config(text) is None


MISTAKES = {
    "{oops": "not JSON",
    "[]": "should be a mapping",
    json.dumps({"task": {"type": "worker", "index": 0}}): "cluster: is required",
    json.dumps({"cluster": {"worker": TWO}}): "task: is required",
    json.dumps({"cluster": {"worker": TWO}, "task": {"type": "worker"}}): "task.index: is required",
    tf_config({}, type="worker", index=0): "cluster has no address",
    tf_config({"worker": []}, type="worker", index=0): "cluster has no address",
    tf_config({"wroker": TWO}, type="worker", index=0): "'chief' or 'worker', not 'wroker'",
    tf_config({"worker": ["one"]}, type="worker", index=0): "cluster.worker.0: ",
    tf_config({"worker": ["one:1", "one:1"]}, type="worker", index=0): "the same address twice",
    tf_config({"worker": TWO}, type="worker", index=2): "task.index is 2, expected 0 to 1",
    tf_config({"worker": TWO}, type="worker", index=-1): "task.index: should be greater than",
    tf_config({"worker": TWO}, type="chief", index=0): "expected one of the cluster's jobs: worker",
    tf_config(
        {"worker": TWO}, type="evaluator", index=0
    ): "task.type: should be 'chief' or 'worker'",
    tf_config({"chief": TWO}, type="chief", index=0): "there is one chief",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_wrong_tf_config_is_told_in_one_line(text):
    with pytest.raises(UserError) as error:
        parse_tf_config(text)
    assert str(error.value).startswith("TF_CONFIG: ")
    assert MISTAKES[text] in str(error.value)
    assert "\n" not in str(error.value)


CANNOT_BE_HAD = {
    "multi_worker_mirrored": ([], "TF_CONFIG, or --slurm"),
    "mirrored": ([], "there is CPU:0 alone; --devices=CPU:0,CPU:1 makes two"),
    "tpu": ([], "cannot use the TPU 'local'"),
    "one_device": (["CPU:0", "CPU:1"], "takes one device, not CPU:0,CPU:1"),
}


@pytest.mark.parametrize("name", CANNOT_BE_HAD)
def test_a_strategy_without_its_devices(name):
    devices, message = CANNOT_BE_HAD[name]
    if name == "mirrored" and tf.config.list_physical_devices("GPU"):
        pytest.skip("for a machine without GPUs")
    with pytest.raises(UserError, match=f"--strategy={name}") as error:
        build_strategy(name, devices)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (["GPU:99"], "there is no GPU:99; TensorFlow sees "),
        (["gpu1"], "'gpu1' is not a device; expected CPU:0, GPU:1 and so on"),
        (["CPU:0", "GPU:0"], "mixes CPU and GPU"),
        (["CPU:0", "CPU:0"], "names a device twice"),
        (["CPU:0", "CPU:2"], "the parts of the CPU are CPU:0, CPU:1"),
    ],
)
def test_devices_that_are_not_there(devices, message):
    with pytest.raises(UserError) as error:
        build_strategy("mirrored", devices)
    assert message in str(error.value)


def test_arguments_that_do_not_go_together():
    with pytest.raises(UserError, match="--devices does not go with a TPU"):
        build_strategy("tpu", ["CPU:0"])
    with pytest.raises(UserError, match="--slurm goes with"):
        build_strategy("mirrored", slurm=True)


def test_a_worker_has_one_replica_on_the_cpu(environment):
    environment.setenv("TF_CONFIG", tf_config({"worker": TWO}, type="worker", index=0))
    with pytest.raises(UserError, match="start more workers"):
        build_strategy("auto", ["CPU:0", "CPU:1"])


def test_a_cluster_of_one_is_one_device(environment):
    environment.setenv("TF_CONFIG", tf_config({"worker": ["one:1"]}, type="worker", index=0))
    assert build_strategy("auto").num_replicas_in_sync == 1


def test_a_binary_of_one_process_does_not_wait_for_workers(environment):
    environment.setenv("TF_CONFIG", tf_config({"worker": TWO}, type="worker", index=0))
    assert build_strategy("auto", workers=False).num_replicas_in_sync == 1


def test_a_named_tpu_is_what_auto_takes(environment):
    environment.setenv("TPU_NAME", "local")
    with pytest.raises(UserError, match="cannot use the TPU 'local'"):
        build_strategy("auto")


def slurm(environment, nodes, tasks_per_node, tasks, rank):
    environment.setenv("SLURM_STEP_NUM_TASKS", str(tasks))
    environment.setenv("SLURM_STEP_NODELIST", nodes)
    environment.setenv("SLURM_STEP_TASKS_PER_NODE", tasks_per_node)
    environment.setenv("SLURM_PROCID", str(rank))


def test_slurm_has_a_worker_for_each_task(environment):
    slurm(environment, "gpu[07-08]", "2(x2)", 4, 2)
    environment.setenv("SLURMD_NODENAME", "gpu08")
    cluster = slurm_cluster()
    assert cluster.addresses == ["gpu07:8888", "gpu07:8889", "gpu08:8888", "gpu08:8889"]
    assert cluster.address == "gpu08:8888"


def test_slurm_hosts_that_tensorflow_sorts_in_another_order_are_told(environment):
    slurm(environment, "gpu[9-10]", "1(x2)", 2, 0)
    environment.setenv("SLURMD_NODENAME", "gpu9")
    with pytest.raises(UserError, match=r"task 0 runs on gpu9 .* gpu10:8888; set TF_CONFIG"):
        slurm_cluster()


def test_slurm_without_a_job_step(environment):
    environment.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(UserError, match="--slurm: SLURM_PROCID not found"):
        slurm_cluster()


def test_the_binaries_say_it_in_one_line(tmp_path):
    path = write_experiment(tmp_path)
    done = run(
        "train", f"--config={path}", f"--workdir={tmp_path / 'run'}", env={"TF_CONFIG": "{oops"}
    )
    assert done.returncode == 1
    assert error_line(done).startswith("error: TF_CONFIG: not JSON")
    assert not (tmp_path / "run").exists()
