"""The workers of a run, as the environment variable `TF_CONFIG` names them."""

import json
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mtdnn_tf.errors import UserError
from mtdnn_tf.validation.fields import validated

Address = Annotated[str, Field(pattern=r"^\S+:\d+$")]
Job = Literal["chief", "worker"]


class Task(BaseModel):
    """Which of the cluster's processes this one is.

    Attributes:
        type: The job.
        index: The position in the job's addresses.
    """

    model_config = ConfigDict(frozen=True)

    type: Job
    index: Annotated[int, Field(ge=0)]


class Cluster(BaseModel):
    """All workers of a run, and which of them this process is.

    Attributes:
        cluster: Job to the `host:port` of each of its processes.
        task: This process.
    """

    model_config = ConfigDict(frozen=True)

    cluster: dict[Job, list[Address]]
    task: Task

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.addresses:
            raise ValueError("cluster has no address; expected those of all workers")
        if len(self.cluster.get("chief", [])) > 1:
            raise ValueError("cluster.chief has several addresses; there is one chief")
        if len(set(self.addresses)) < len(self.addresses):
            raise ValueError("cluster names the same address twice")
        addresses = self.cluster.get(self.task.type)
        if addresses is None:
            raise ValueError(
                f"task.type is {self.task.type!r}, expected one of the cluster's jobs: "
                f"{', '.join(self.cluster)}"
            )
        if self.task.index >= len(addresses):
            raise ValueError(
                f"task.index is {self.task.index}, expected 0 to {len(addresses) - 1}, "
                f"a position in cluster.{self.task.type}"
            )
        return self

    @property
    def addresses(self) -> list[str]:
        """The addresses of all workers, the chief's first."""
        return self.cluster.get("chief", []) + self.cluster.get("worker", [])

    @property
    def address(self) -> str:
        """The address of this process."""
        return self.cluster[self.task.type][self.task.index]


def parse_tf_config(text: str) -> Cluster | None:
    """Reads the value of `TF_CONFIG`; None where it is empty or `{}`.

    Keys that TensorFlow knows and this project does not use, such as `environment`, are let be.

    Raises:
        UserError: It is not JSON, or names no cluster in which this process has a place.
    """
    if not text.strip():
        return None
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise UserError(f"TF_CONFIG: not JSON: {error}") from error
    return validated(Cluster, tree, "TF_CONFIG") if tree != {} else None
