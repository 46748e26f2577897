"""Output layers by their names: which tasks they fit, and which layer of Keras each is."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, StrictFloat, StrictInt

from mtdnn_tf.validation.fields import Section
from mtdnn_tf.validation.registry import Registry

if TYPE_CHECKING:
    from keras import layers

    from mtdnn_tf.tasks.spec import TaskSpec

Rate = Annotated[StrictFloat, Field(ge=0, lt=1)]


class SANSettings(Section):
    """The SAN head of a pair classification task; see `mtdnn_tf.modeling.heads.san`.

    Attributes:
        steps: How often the first text is read and an answer given; the answer is their mean.
        prediction_dropout: Probability with which a step's answer is left out of the mean in
            training; one step, drawn evenly, always stays.
        state_dropout: Dropout rate on the state between steps; null is the task's `dropout`.
        memory_dropout: Dropout rate on the features of words, one mask for all words of an example;
            null is the task's `dropout`.
    """

    steps: Annotated[StrictInt, Field(ge=1)] = 5
    prediction_dropout: Rate = 0.1
    state_dropout: Rate | None = None
    memory_dropout: Rate | None = None


class Head(ABC):
    """A sort of output layer, as configs know it.

    Attributes:
        name: What `head` of a task calls it.
        layer: A layer of Keras, or where one is as `module:name`: configs are read without Keras. It is
            called as `mtdnn_tf.modeling.heads.LinearHead` is; one that reads words is a `WordsHead`.
        reads_words: Whether it reads the vectors of an example's words, not that of the example.
    """

    name: str
    layer: type[layers.Layer] | str
    reads_words = False

    def check(self, task: TaskSpec) -> None:
        """Raises a ValueError where the head is not for the task."""
        if task.san is not None:
            raise ValueError(f"the section san goes with head: san, not head: {self.name}")

    def settings(self, task: TaskSpec) -> dict[str, Any]:
        """What the layer is made with beside its size and its dropout rate."""
        return {}


class Linear(Head):
    """One matrix on the example's vector."""

    name = "linear"
    layer = "mtdnn_tf.modeling.heads.linear:LinearHead"


class SAN(Head):
    """A stochastic answer network on the words of both texts."""

    name = "san"
    layer = "mtdnn_tf.modeling.heads.san:SANHead"
    reads_words = True

    def check(self, task: TaskSpec) -> None:
        """See `Head`; its answers are log probabilities of classes."""
        if task.kind.texts != 2 or not task.kind.has_classes:
            raise ValueError(f"head {self.name} is for pair_classification tasks, not {task.kind}")

    def settings(self, task: TaskSpec) -> dict[str, Any]:
        """See `Head`."""
        return (task.san or SANSettings()).model_dump()


HEADS: Registry[Head] = Registry("head", (Linear(), SAN()))
