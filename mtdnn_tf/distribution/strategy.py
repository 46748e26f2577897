"""The distribution strategy: which devices, and which workers, take part in a run.

It has to be built before any other TensorFlow operation: a process settles its devices, and its
connection to other workers, when TensorFlow starts.
"""

import os
import re
import sys
from collections.abc import Sequence

import tensorflow as tf

from mtdnn_tf.distribution.cluster import Cluster, Task, parse_tf_config
from mtdnn_tf.distribution.signals import handlers_kept
from mtdnn_tf.errors import UserError

SLURM_PORT = 8888  # Of a host's first worker; the next ones count on.


def build_strategy(
    name: str = "auto",
    devices: Sequence[str] = (),
    tpu: str | None = None,
    slurm: bool = False,
    workers: bool = True,
) -> tf.distribute.Strategy:
    """Builds a distribution strategy.

    Args:
        name: `one_device`, `mirrored`, `multi_worker_mirrored`, `tpu`, or `auto`: a TPU if one is
            named or there; several workers if `TF_CONFIG` or Slurm has them; several devices of this
            process if it has several GPUs or was given several devices; else one device.
        devices: The devices that this process uses, such as `GPU:1`; by default all GPUs, or
            `CPU:0` where there is none. `CPU:0` and `CPU:1` make two devices of the CPU.
        tpu: Name of the TPU; by default `$TPU_NAME`, else `local`.
        slurm: Take the workers from Slurm's variables and not from `TF_CONFIG`.
        workers: Whether several processes may take part; where not, `TF_CONFIG` is not looked at.

    Raises:
        UserError: Its devices are not there, what describes the workers is wrong, or two arguments do
            not go together.
    """
    if slurm and name not in ("auto", "multi_worker_mirrored"):
        raise UserError(f"--slurm goes with --strategy=multi_worker_mirrored, not {name}")
    tpu = tpu or os.environ.get("TPU_NAME")
    cluster = None
    if slurm:
        cluster = slurm_cluster()
    elif workers and name in ("auto", "multi_worker_mirrored"):
        cluster = parse_tf_config(os.environ.get("TF_CONFIG", ""))
    if name == "auto":
        name = _choose(devices, cluster, tpu)
    if name == "tpu" and devices:
        raise UserError("--devices does not go with a TPU, which is used as a whole")
    if name == "tpu":
        return _tpu(tpu or "local")
    if name == "multi_worker_mirrored":
        return _multi_worker_mirrored(devices, cluster)
    return _mirrored(devices) if name == "mirrored" else _one_device(devices)


def _choose(devices: Sequence[str], cluster: Cluster | None, tpu: str | None) -> str:
    """The strategy that `auto` stands for."""
    if tpu or tf.config.list_physical_devices("TPU"):
        return "tpu"
    if cluster and len(cluster.addresses) > 1:
        return "multi_worker_mirrored"
    here = devices or tf.config.list_physical_devices("GPU")
    return "mirrored" if len(here) > 1 else "one_device"


def _use_only(devices: Sequence[str]) -> None:
    """Hides all other devices from this process, and makes the CPU as many as are named.

    Raises:
        UserError: A name is wrong or stands there twice, or there is no such device.
    """
    if not devices:
        return
    kinds, numbers = set(), []
    for device in devices:
        match = re.fullmatch(r"(CPU|GPU):(\d+)", device)
        if match is None:
            raise UserError(
                f"--devices: {device!r} is not a device; expected CPU:0, GPU:1 and so on"
            )
        kinds.add(match[1])
        numbers.append(int(match[2]))
    given = f"--devices={','.join(devices)}"
    if len(kinds) > 1:
        raise UserError(f"{given} mixes CPU and GPU; replicas run on devices of one kind")
    if len(set(numbers)) < len(numbers):
        raise UserError(f"{given} names a device twice")
    gpus = tf.config.list_physical_devices("GPU")
    if kinds == {"CPU"}:
        if sorted(numbers) != list(range(len(numbers))):
            raise UserError(f"{given}: the parts of the CPU are CPU:0, CPU:1 and so on")
        tf.config.set_visible_devices([], "GPU")
        parts = [tf.config.LogicalDeviceConfiguration()] * len(numbers)
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
        return
    for number in numbers:
        if number >= len(gpus):
            there = ", ".join(f"GPU:{i}" for i in range(len(gpus))) or "no GPU"
            raise UserError(f"--devices: there is no GPU:{number}; TensorFlow sees {there}")
    tf.config.set_visible_devices([gpus[number] for number in numbers], "GPU")


def _one_device(devices: Sequence[str]) -> tf.distribute.Strategy:
    if len(devices) > 1:
        raise UserError(f"--strategy=one_device takes one device, not {','.join(devices)}")
    _use_only(devices)
    tf.config.set_visible_devices(tf.config.get_visible_devices("GPU")[:1], "GPU")
    # The default strategy runs on the one GPU there is, else the CPU, with plain variables.
    return tf.distribute.get_strategy()


def _mirrored(devices: Sequence[str]) -> tf.distribute.Strategy:
    _use_only(devices)
    here = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    names = [f"{device.device_type}:{i}" for i, device in enumerate(here)]
    if len(names) == 1:
        raise UserError(
            f"--strategy=mirrored needs several devices, and there is {names[0]} alone; "
            "--devices=CPU:0,CPU:1 makes two of the CPU"
        )
    return tf.distribute.MirroredStrategy(names)


def _multi_worker_mirrored(
    devices: Sequence[str], cluster: Cluster | None
) -> tf.distribute.Strategy:
    if cluster is None:
        raise UserError(
            "--strategy=multi_worker_mirrored needs the cluster in the environment variable "
            "TF_CONFIG, or --slurm"
        )
    if len(devices) > 1 and devices[0].startswith("CPU"):
        raise UserError(
            f"--devices={','.join(devices)}: a worker of multi_worker_mirrored has one replica on "
            "the CPU; start more workers"
        )
    _use_only(devices)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(cluster.cluster), task_type=cluster.task.type, task_id=cluster.task.index,
        num_accelerators={"GPU": len(tf.config.get_visible_devices("GPU"))}, rpc_layer="grpc",
    )  # fmt: skip
    others = [address for address in cluster.addresses if address != cluster.address]
    if others:
        print(f"{cluster.address} waits for {', '.join(others)}", file=sys.stderr, flush=True)
    try:
        with handlers_kept():
            return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except tf.errors.OpError as error:
        reason = error.message.splitlines()[0]
        raise UserError(
            f"the worker {cluster.address} cannot start or join the others: {reason}; is its port free?"
        ) from error


def slurm_cluster() -> Cluster:
    """The cluster of the Slurm job step that this process belongs to, a worker a task.

    Raises:
        UserError: There is no job step, or TensorFlow reads its hosts in another order.
    """
    try:
        tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
        # It is asked for addresses alone: on hosts without GPUs its sharing of GPUs fails.
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=SLURM_PORT, gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False
        )
        jobs = resolver.cluster_spec().as_dict()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"--slurm: {error}") from error
    task_type, index = resolver.get_task_info()
    cluster = Cluster(cluster=jobs, task=Task(type=task_type, index=index))
    here = os.environ.get("SLURMD_NODENAME")
    if here and here != cluster.address.rsplit(":", 1)[0]:
        raise UserError(
            f"--slurm: task {index} runs on {here} and TensorFlow, which sorts hosts by name, takes "
            f"it to be {cluster.address}; set TF_CONFIG instead"
        )
    return cluster


def _tpu(name: str) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (tf.errors.OpError, ValueError, RuntimeError, OSError) as error:
        reason = str(getattr(error, "message", error)).splitlines()[0]
        raise UserError(f"--strategy=tpu: cannot use the TPU {name!r}: {reason[:200]}") from error
