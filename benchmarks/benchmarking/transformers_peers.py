"""A run's encoder and heads in transformers with PyTorch, and in ONNX Runtime, from raw text."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertModel, BertTokenizerFast
from transformers.utils import logging as transformers_logging

from mtdnn_tf.errors import UserError
from mtdnn_tf.modeling import LinearHead, encoder_of, heads_of
from mtdnn_tf.recipes.conversion import convert
from mtdnn_tf.runs.loading import MTDNN
from mtdnn_tf.tasks.spec import TaskSpec

Row = tuple[str, str, str]  # Task, first text, second text ("" for tasks over one).


class TransformersPeers:
    """The run's model as others run it: batches padded to the longest of each.

    An answer is one number a row: the probability of the first class, or the score.

    Args:
        loaded: The run; its heads must be linear.
        workdir: Its run directory.
        folder: Where the converted encoder is written.
        threads: Threads of each; 0 is one for each core.

    Raises:
        UserError: A head is not linear.
    """

    def __init__(self, loaded: MTDNN, workdir: str, folder: Path, threads: int) -> None:
        heads = heads_of(loaded.model)
        if not all(isinstance(head, LinearHead) for head in heads.values()):
            raise UserError("expected a run whose heads are all linear")
        convert(workdir, folder / "encoder")
        transformers_logging.set_verbosity_error()  # A pooler that is not used is not in the file.
        self._tasks = {name: loaded.head(name) for name in loaded.tasks}
        self._folder, self._threads = folder, threads
        tokenizer = BertTokenizerFast.from_pretrained(folder / "encoder").backend_tokenizer
        tokenizer.enable_truncation(loaded.experiment.data.max_length, strategy="longest_first")
        tokenizer.enable_padding()
        self._tokenizer = tokenizer
        if threads:
            torch.set_num_threads(threads)
        self._names = list(heads)
        weights = [
            [variable.numpy() for variable in head.logits.weights] for head in heads.values()
        ]
        self._model = _Model(folder / "encoder", encoder_of(loaded.model).pooling, weights).eval()

    def torch(self, rows: Sequence[Row], dtype: torch.dtype = torch.float32) -> np.ndarray:
        """PyTorch's answers, with autocast to `dtype`: [rows] float."""
        batch = {name: torch.from_numpy(value) for name, value in self._batch(rows).items()}
        autocast = torch.autocast("cpu", dtype, enabled=dtype != torch.float32)
        with torch.inference_mode(), autocast:
            logits = self._model(**batch)
        return self._chosen(rows, [value.float().numpy() for value in logits])

    def onnx(self) -> Callable[[Sequence[Row]], np.ndarray]:
        """ONNX Runtime's answers, from the graph that PyTorch exports."""
        import onnxruntime

        example = self._batch([("", "a b", ""), ("", "c", "")])
        names, path = list(example), str(self._folder / "model.onnx")
        torch.onnx.export(
            self._model,
            tuple(torch.from_numpy(value) for value in example.values()),
            path,
            input_names=names,
            output_names=self._names,
            dynamic_axes={name: {0: "batch", 1: "length"} for name in names},
            opset_version=17,
            dynamo=False,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        return lambda rows: self._chosen(rows, session.run(None, self._batch(rows)))

    def _batch(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        texts = [(row[1], row[2]) if row[2] else row[1] for row in rows]
        encoded = self._tokenizer.encode_batch(texts)
        return {
            "input_ids": np.array([e.ids for e in encoded], np.int64),
            "attention_mask": np.array([e.attention_mask for e in encoded], np.int64),
            "token_type_ids": np.array([e.type_ids for e in encoded], np.int64),
        }

    def _chosen(self, rows: Sequence[Row], logits: Sequence[np.ndarray]) -> np.ndarray:
        by_name = dict(zip(self._names, logits, strict=True))
        heads = [self._tasks[task] for task, _, _ in rows]
        return np.array(
            [_first_output(head, by_name[head.name][i]) for i, head in enumerate(heads)]
        )


class _Model(torch.nn.Module):
    """The encoder of a folder, pooled, with linear heads of `[kernel, bias]` each."""

    def __init__(self, encoder: Path, pooling: str, heads: Sequence[Sequence[np.ndarray]]) -> None:
        super().__init__()
        self.bert = BertModel.from_pretrained(encoder, attn_implementation="sdpa")
        self.pooling = pooling
        self.heads = torch.nn.ModuleList()
        for kernel, bias in heads:
            linear = torch.nn.Linear(*kernel.shape)
            linear.weight.data = torch.from_numpy(kernel.T.copy())
            linear.bias.data = torch.from_numpy(bias)
            self.heads.append(linear)

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
        """Logits of each head."""
        found = self.bert(input_ids, attention_mask, token_type_ids)
        vectors = found.last_hidden_state[:, 0]
        if self.pooling == "cls_pooler":
            vectors = found.pooler_output
        elif self.pooling == "mean":
            mask = attention_mask[..., None].to(vectors.dtype)
            vectors = (found.last_hidden_state * mask).sum(1) / mask.sum(1)
        return tuple(head(vectors) for head in self.heads)


def _first_output(task: TaskSpec, logits: np.ndarray) -> float:
    """What is compared: the probability of the first class, or the score."""
    if not task.kind.has_classes:
        return float(logits[0])
    exponents = np.exp(logits - logits.max())
    return float(exponents[0] / exponents.sum())
