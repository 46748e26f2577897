"""The functions that an exported model serves: texts or token ids in, answers out."""

from collections.abc import Callable, Sequence
from functools import cache, partial

import keras
import tensorflow as tf

from mtdnn_tf.evaluation.ragged import Kept, RaggedModel, ragged_features
from mtdnn_tf.modeling import BertEncoder, average_windows, encoder_of
from mtdnn_tf.runs.loading import MTDNN
from mtdnn_tf.tasks.names import ENCODE, MIXED, TOGETHER, TOKENS
from mtdnn_tf.tasks.spec import TaskSpec
from mtdnn_tf.tokenizers.tokenizer import Encoded

Outputs = dict[str, tf.Tensor]
TEXTS = ("sentence1", "sentence2")


class ServedModel:
    """A trained model as functions of texts.

    The batch is dimension 0 of every input and output, and may have any size. The answer of a task
    is, for classification, `label` (a name) [n] string, `class_id` [n] int32, `probabilities`
    [n, classes] float32 and `labels` [n, classes] string, the names that they belong to; for
    similarity and ranking `score` [n] float32.

    Token-wise layers run on real tokens alone, whatever the lengths in a batch.

    Args:
        loaded: The trained model, whose weights are shared.
        int8: Keeps the encoder's matrices, but for the tables of its embeddings, in 8 bits with a
            scale for each column; they are rounded, so that answers move a little.
        freeze: Makes constants of the encoder's weights, but for the tables of its embeddings. In
            bfloat16 one row is then answered faster; in memory each signature that is used holds a
            copy of its own.
    """

    def __init__(self, loaded: MTDNN, *, freeze: bool = False, int8: bool = False) -> None:
        self._loaded, self._tokenizer = loaded, loaded.tokenizer
        self._encoder = encoder_of(loaded.model)
        self._kept = _kept(self._encoder, freeze, int8)  # A function does not hold its variables.
        self._ragged = RaggedModel(loaded.model, self._kept)
        # One graph that all functions call: what a tokenizer holds is saved once.
        self._encode_in_graph = cache(self._tokenizer.encode_in_graph)

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """All functions by the name of their signature.

        * `<task>`: the task's own text fields, [n] string each.
        * `<task>_tokens`: `token_ids` [n, length] int32, `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`;
          what comes after the last `[SEP]` of a row is padding, whatever it is; a row is one window.
          Needs no op of tensorflow_text.
        * `serving_default`: rows of any tasks: `task`, `sentence1` and `sentence2` [n] string, the
          last not looked at for tasks over one text. Its outputs have room for the task with most
          classes; `score` is the probability of `label` where a task has labels.
        * `all_single`, `all_pair`: every task with a head over one text, or over two, for the same
          texts; its outputs are called `<task>_label` and so on.
        * `encode`: `sentence1` to the vectors `cls`, `mean` (over its tokens) and `pooled` (what
          linear heads see), [n, hidden] float32.
        """
        tasks = self._loaded.tasks
        heads = self._loaded.experiment.heads
        found = {MIXED: _traced(self._mixed, _strings("task", *TEXTS))}
        for name, number in TOGETHER.items():
            fitting = [task for task in heads if len(task.fields) == number]
            if fitting:
                found[name] = _traced(partial(self._all, fitting), _strings(*TEXTS[:number]))
        found[ENCODE] = _traced(self._encode, _strings(TEXTS[0]))
        for name, task in tasks.items():
            token_ids = [tf.TensorSpec([None, None], tf.int32, "token_ids")]
            found[name] = _traced(partial(self._task, task), _strings(*task.fields))
            found[TOKENS.format(name)] = _traced(partial(self._tokens, task), token_ids)
        return found

    def _task(self, task: TaskSpec, *texts: tf.Tensor) -> Outputs:
        return self._answer(task, self._features(self._encoded(*texts)))

    def _tokens(self, task: TaskSpec, token_ids: tf.Tensor) -> Outputs:
        longest = self._encoder.config.max_position_embeddings
        ids, types = without_padding(token_ids, self._tokenizer.sep_id, longest)
        known = tf.reduce_all(
            (ids.flat_values >= 0) & (ids.flat_values < self._tokenizer.vocab_size)
        )
        check = tf.debugging.Assert(known, ["token_ids: expected ids of the vocabulary"])
        (flat,) = _after([check], ids.flat_values)
        windows = tf.ones([ids.nrows()], tf.int32) if self._ragged.has_windows else None
        return self._answer(task, ragged_features(ids.with_flat_values(flat), types, windows))

    def _encoded(self, *texts: tf.Tensor) -> Encoded:
        return self._encode_in_graph(len(texts))(*texts)

    def _features(self, encoded: Encoded) -> Outputs:
        windows = tf.cast(encoded.windows, tf.int32) if self._ragged.has_windows else None
        return ragged_features(encoded.token_ids, encoded.type_ids, windows)

    def _answer(self, task: TaskSpec, features: Outputs) -> Outputs:
        head = self._loaded.head(task.name)
        return answers(head, self._ragged.logits([head.name], features)[head.name])

    def _all(self, tasks: Sequence[TaskSpec], *texts: tf.Tensor) -> Outputs:
        names = [task.name for task in tasks]
        logits = self._ragged.logits(names, self._features(self._encoded(*texts)))
        return {
            f"{task.name}_{name}": value
            for task in tasks
            for name, value in answers(task, logits[task.name]).items()
        }

    def _encode(self, sentence1: tf.Tensor) -> Outputs:
        features = self._features(self._encoded(sentence1))
        encoded = self._ragged.encoded(features)
        tokens = tf.cast(encoded["sequence"], tf.float32)
        return {
            "cls": average_windows(tf.gather(tokens, features["first_slot"]), features),
            "mean": average_windows(tf.math.segment_mean(tokens, features["row_ids"]), features),
            "pooled": tf.cast(encoded["examples"], tf.float32),
        }

    def _mixed(self, task: tf.Tensor, sentence1: tf.Tensor, sentence2: tf.Tensor) -> Outputs:
        sizes = [tf.size(texts) for texts in (task, sentence1, sentence2)]
        equal = tf.reduce_max(sizes) == tf.reduce_min(sizes)
        check = tf.debugging.Assert(
            equal, ["task, sentence1, sentence2: expected as many of each:", *sizes]
        )
        task, sentence1, sentence2 = _after([check], task, sentence1, sentence2)
        tasks = list(self._loaded.tasks.values())
        names = [of_one.name for of_one in tasks]
        is_named = task[:, tf.newaxis] == tf.constant(names)
        check = tf.debugging.Assert(
            tf.reduce_all(tf.reduce_any(is_named, axis=1)),
            [f"task: expected one of {', '.join(names)}; found", task],
        )
        (is_named,) = _after([check], is_named)
        number = tf.argmax(tf.cast(is_named, tf.int32), axis=1)
        if any(len(of_one.fields) == 2 for of_one in tasks):
            is_pair = tf.gather([len(of_one.fields) == 2 for of_one in tasks], number)
            encoded = self._tokenizer.encode_mixed(sentence1, sentence2, is_pair)
        else:
            encoded = self._tokenizer.encode(sentence1)
        heads = [head.name for head in self._loaded.experiment.heads]
        logits = self._ragged.logits(heads, self._features(encoded))
        return mixed_answers([self._loaded.head(name) for name in names], logits, number)


def _kept(encoder: BertEncoder, freeze: bool, int8: bool) -> list[Kept]:
    """The weights of an encoder that are not kept as its own variables, and what gives them.

    The tables of the embeddings always stay variables: a row of a constant is not looked up faster.
    """
    tables = {id(variable) for variable in encoder.embeddings.weights}
    others = [variable for variable in encoder.weights if id(variable) not in tables]
    if int8:
        return [(v, _in_8_bits(v)) for v in others if v.path.endswith("kernel")]
    return [(v, partial(tf.constant, v.numpy())) for v in others if freeze]


def _in_8_bits(kernel: keras.Variable) -> Callable[[], tf.Tensor]:
    """A matrix [inputs, outputs] in whole numbers to 127 times a scale of each column.

    Returns:
        What gives the matrix again, in its own type.
    """
    matrix = tf.cast(kernel.value, tf.float32)
    scale = tf.maximum(tf.reduce_max(tf.abs(matrix), axis=0), 1e-30) / 127
    whole = tf.Variable(tf.cast(tf.round(matrix / scale), tf.int8), trainable=False)
    scale = tf.Variable(scale, trainable=False)
    return lambda: tf.cast(tf.cast(whole, tf.float32) * scale, kernel.dtype)


def without_padding(
    token_ids: tf.Tensor, sep_id: int, longest: int
) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """Cuts rows of ids after their last `[SEP]`.

    A batching server pads with whatever stands first in a tensor, so no id says what is padding.

    Args:
        token_ids: [n, length] int32.
        sep_id: The id of `[SEP]`.
        longest: Most tokens of a row.

    Returns:
        Token and type ids, both [n, (tokens)] int32; type 0 up to the first [SEP], then 1.
    """
    separates = tf.cast(token_ids == sep_id, tf.int32)
    # Not a range: of no rows the length may be anything.
    position = tf.cumsum(tf.ones_like(token_ids), axis=1)
    lengths = tf.reduce_max(separates * position, axis=1)
    lengths = tf.maximum(lengths, 0)  # The maximum of nothing is below 0.
    checks = [
        tf.debugging.assert_positive(
            lengths, f"token_ids: expected [SEP], id {sep_id}, in each row"
        ),
        tf.debugging.assert_less_equal(
            lengths, longest, f"token_ids: expected {longest} tokens a row at most"
        ),
    ]
    (lengths,) = _after(checks, lengths)
    token_ids = token_ids[:, : tf.maximum(tf.reduce_max(lengths), 0)]
    separates = tf.cast(token_ids == sep_id, tf.int32)
    type_ids = tf.minimum(tf.cumsum(separates, axis=1, exclusive=True), 1)
    return (
        tf.RaggedTensor.from_tensor(token_ids, lengths),
        tf.RaggedTensor.from_tensor(type_ids, lengths),
    )


def _after(checks: Sequence[tf.Operation], *tensors: tf.Tensor) -> list[tf.Tensor]:
    """The tensors once the checks have passed: what is computed from them has no say before."""
    with tf.control_dependencies(checks):
        return [tf.identity(tensor) for tensor in tensors]


def answers(task: TaskSpec, logits: tf.Tensor) -> Outputs:
    """What a head's output says.

    Args:
        task: The task whose head it is.
        logits: [n, outputs] float32.

    Returns:
        See `ServedModel`.
    """
    answer = {name: tf.convert_to_tensor(v) for name, v in task.kind.answer(task, logits).items()}
    if "class_id" not in answer:
        return answer
    labels = tf.constant(task.labels)
    return {
        "label": tf.gather(labels, answer["class_id"]),
        **answer,
        "labels": tf.tile(labels[tf.newaxis], [tf.shape(logits)[0], 1]),
    }


def mixed_answers(
    heads: Sequence[TaskSpec], logits: dict[str, tf.Tensor], number: tf.Tensor
) -> Outputs:
    """The answers of rows of several tasks.

    Args:
        heads: The task whose head answers each task.
        logits: Task name to its head's output for all rows, [n, outputs] float32.
        number: [n] int64, the position in `heads` of each row's task.

    Returns:
        `score` [n] float32: of similarity and ranking, and the probability of the label of others;
        and, where there are tasks with labels, `label` [n] string, `class_id` [n] int32,
        `probabilities` [n, most classes] float32 and `labels` [n, most classes] string, which are
        empty, -1, 0 and empty where there is nothing.
    """
    rows = tf.shape(number)[0]
    most = max((len(head.labels) for head in heads if head.kind.has_classes), default=0)
    mixed: Outputs = {"score": tf.zeros([rows])}
    if most:
        mixed |= {
            "label": tf.fill([rows], ""),
            "class_id": tf.fill([rows], -1),
            "probabilities": tf.zeros([rows, most]),
            "labels": tf.fill([rows, most], ""),
        }
    for position, head in enumerate(heads):
        here = number == position
        own = answers(head, logits[head.name])
        if head.kind.has_classes:
            own["score"] = tf.reduce_max(own["probabilities"], axis=1)
            room = [[0, 0], [0, most - len(head.labels)]]
            own["probabilities"] = tf.pad(own["probabilities"], room)
            own["labels"] = tf.pad(own["labels"], room, constant_values="")
        for name, value in own.items():
            chosen = here if value.shape.rank == 1 else here[:, tf.newaxis]
            mixed[name] = tf.where(chosen, value, mixed[name])
    return mixed


def _strings(*names: str) -> list[tf.TensorSpec]:
    return [tf.TensorSpec([None], tf.string, name) for name in names]


def _traced(
    function: Callable[..., Outputs], inputs: Sequence[tf.TensorSpec]
) -> tf.types.experimental.ConcreteFunction:
    """A function as a graph whose inputs are called as `inputs` are."""
    return tf.function(function, autograph=False).get_concrete_function(*inputs)
