"""The stochastic answer network (SAN), MT-DNN's head for pairs of texts."""

from functools import partial
from typing import Any

import keras
from keras import KerasTensor, layers, ops

from mtdnn_tf.modeling.attention import MASKED
from mtdnn_tf.modeling.dropout import dropout
from mtdnn_tf.modeling.heads.memory import WordsHead, memories_of_texts


@keras.saving.register_keras_serializable(package="mtdnn_tf")
class SANHead(WordsHead):
    """Reads the first text again and again with the second in mind, and answers each time.

    arXiv 1901.11504, Eqs 3 and 4, with M^p the words of the first text (premise) and M^h those of
    the second (hypothesis):

    * s_0 = sum_j a_j M^h_j, a = softmax(w1 . M^h);
    * x_k = sum_j b_j M^p_j, b = softmax(s_k W2 M^p), for k = 0..K-1;
    * P_k = softmax(W3 [s_k; x_k; |s_k - x_k|; s_k * x_k]);
    * s_{k+1} = GRU(s_k, x_k);
    * the answer is the mean of P_0..P_{K-1}.

    As in the released code a step answers before its GRU update, so x is read at the state that it
    is compared with. The GRU is that of `torch.nn.GRUCell` and of Keras with `reset_after=True`;
    it is written out since Keras' cell makes a random state of its own whose path, which a
    checkpoint goes by, depends on what was built before.

    The output is log of the mean probability, `logsumexp_k(log P_k) - log K` of log-softmaxes, so
    no probability is formed that could round to 0. These are logits: their softmax is the mean.

    In training there are four dropouts, all per example:

    * prediction dropout: one step, drawn evenly, stays; each other step is dropped with probability
      `prediction_dropout`; the mean is over the steps that stay. Every step has the same
      expected part, 1/K, so the expected answer is the mean of all steps;
    * of the state as the attention reads it, and as the GRU reads it: a mask each, at each step;
    * of the words, one mask per feature for all words of an example: M^h in s_0, and M^p in the scores
      of each step (a new mask; the sum x_k is over the whole vectors, as in the released code);
    * of the features that W3 sees.

    Examples do not see each other's words; one without words in a text has 0 for that text's vector.
    All is float32 by default, whatever the encoder's policy is.

    Args:
        output_size: Number of classes.
        rate: Dropout rate on the features before W3, in [0, 1).
        steps: K, 1 or more; with 1 there is no GRU.
        prediction_dropout: Rate of dropping a step.
        state_dropout: Rate on the state; None is `rate`.
        memory_dropout: Rate on the features of words; None is `rate`.
        use_bias: Whether W2, W3 and the GRU have biases. The paper writes none; the released code has
            them.
        initializer_range: Standard deviation of the initial w1, W2, W3 (truncated normal). The GRU
            begins as Keras' does: Glorot uniform for x, orthogonal for s, no bias.
    """

    def __init__(
        self,
        output_size: int,
        rate: float = 0.1,
        *,
        steps: int = 5,
        prediction_dropout: float = 0.1,
        state_dropout: float | None = None,
        memory_dropout: float | None = None,
        use_bias: bool = True,
        initializer_range: float = 0.02,
        **kwargs: object,
    ) -> None:
        super().__init__(**{"dtype": "float32"} | kwargs)
        self.output_size = output_size
        self.rate = rate
        self.steps = steps
        self.prediction_dropout = prediction_dropout
        self.state_dropout = rate if state_dropout is None else state_dropout
        self.memory_dropout = rate if memory_dropout is None else memory_dropout
        self.use_bias = use_bias
        self.initializer_range = initializer_range

    def build(self, sequence_shape: Any) -> None:
        """Creates the weights for vectors of `[..., hidden]`."""
        hidden = sequence_shape[-1]
        self.seed_generator = keras.random.SeedGenerator(name="seed_generator")
        self.summary = self.add_weight((hidden,), self._initializer(), name="summary")
        self.bilinear = self._dense("bilinear", hidden, hidden, self._initializer())
        self.logits = self._dense("logits", 4 * hidden, self.output_size, self._initializer())
        if self.steps > 1:
            self.input_gates = self._dense("input_gates", hidden, 3 * hidden, "glorot_uniform")
            self.state_gates = self._dense("state_gates", hidden, 3 * hidden, "orthogonal")

    def call(
        self,
        sequence: KerasTensor,
        inputs: dict[str, KerasTensor],
        training: bool | None = None,
    ) -> KerasTensor:
        """Returns log probabilities `[examples, output_size]`.

        Args:
            sequence: The encoder's `sequence`, `[rows, length, hidden]` or `[tokens, hidden]`.
            inputs: The batch that the encoder was given, packed or ragged (see `BertEncoder`).
            training: Nothing is dropped unless true.
        """
        drop = partial(dropout, seed=self.seed_generator, training=training)
        premise, hypothesis = memories_of_texts(sequence, inputs)
        # (m * M_j) . q = M_j . (m * q): a mask shared by all words is one on the query.
        shape = (hypothesis.examples, sequence.shape[-1])
        mask = drop(ops.ones(shape, self.compute_dtype), self.memory_dropout)
        state = mask * hypothesis.attend(mask * self.summary)
        answers = []
        for step in range(self.steps):
            query = self.bilinear(drop(state, self.state_dropout))
            context = premise.attend(drop(query, self.memory_dropout))
            features = [state, context, ops.abs(state - context), state * context]
            logits = self.logits(drop(ops.concatenate(features, axis=-1), self.rate))
            answers.append(ops.log_softmax(logits))
            if step < self.steps - 1:
                state = self._update(drop(state, self.state_dropout), context)
        return self._log_mean(ops.stack(answers), training)

    def _update(self, state: KerasTensor, context: KerasTensor) -> KerasTensor:
        """GRU(state, context), `[examples, hidden]` each; gates in Keras' order."""
        update_in, reset_in, new_in = ops.split(self.input_gates(context), 3, axis=-1)
        update_state, reset_state, new_state = ops.split(self.state_gates(state), 3, axis=-1)
        update = ops.sigmoid(update_in + update_state)
        reset = ops.sigmoid(reset_in + reset_state)
        new = ops.tanh(new_in + reset * new_state)
        return update * state + (1 - update) * new

    def _log_mean(self, answers: KerasTensor, training: bool | None) -> KerasTensor:
        """Log of the mean of exp(`answers`) `[steps, examples, classes]` over the steps that stay."""
        if not training or not self.prediction_dropout:
            return ops.logsumexp(answers, axis=0) - ops.log(ops.cast(self.steps, answers.dtype))
        examples = ops.shape(answers)[1]
        stays = steps_that_stay(self.steps, examples, self.prediction_dropout, self.seed_generator)
        count = ops.sum(ops.cast(stays, answers.dtype), axis=0)
        answers = ops.where(ops.expand_dims(stays, 2), answers, MASKED)
        return ops.logsumexp(answers, axis=0) - ops.expand_dims(ops.log(count), 1)

    def _initializer(self) -> keras.Initializer:
        return keras.initializers.TruncatedNormal(stddev=self.initializer_range)

    def _dense(
        self, name: str, inputs: int, units: int, initializer: str | keras.Initializer
    ) -> layers.Dense:
        dense = layers.Dense(
            units,
            use_bias=self.use_bias,
            kernel_initializer=initializer,
            dtype=self.dtype_policy,
            name=name,
        )
        dense.build((None, inputs))
        return dense

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return super().get_config() | {
            "output_size": self.output_size,
            "rate": self.rate,
            "steps": self.steps,
            "prediction_dropout": self.prediction_dropout,
            "state_dropout": self.state_dropout,
            "memory_dropout": self.memory_dropout,
            "use_bias": self.use_bias,
            "initializer_range": self.initializer_range,
        }


def steps_that_stay(
    steps: int, examples: int | KerasTensor, rate: float, seed: keras.random.SeedGenerator
) -> KerasTensor:
    """Draws which steps' answers stay, `[steps, examples] bool`; at least one of each example does.

    One step, drawn evenly, stays; each other is dropped with probability `rate`.
    """
    chosen = keras.random.randint((examples,), 0, steps, seed=seed)
    lucky = ops.greater_equal(keras.random.uniform((steps, examples), seed=seed), rate)
    return ops.logical_or(lucky, ops.equal(ops.expand_dims(ops.arange(steps), 1), chosen))
