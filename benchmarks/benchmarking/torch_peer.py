"""transformers and PyTorch, as `run_glue.py` uses them: AdamW, clipping, batches of padded examples."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from benchmarking.workload import Workload


class Runner:
    """Trains `BertForSequenceClassification`.

    Args:
        contender: `torch fp32|bf16 pad|dynamic|grouped [compiled]`; bf16 is autocast.
        workload: The examples.
        settings: `encoder` (a Hugging Face folder or null for random weights), `config`, `examples`,
            `turn`, `dropout`, `threads`.
    """

    def __init__(self, contender: str, workload: Workload, settings: dict[str, Any]) -> None:
        _, precision, padding, *rest = contender.split()
        if settings["threads"]:
            torch.set_num_threads(settings["threads"])
        torch.manual_seed(0)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.set_float32_matmul_precision("high")
        dropout = settings["dropout"]
        rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        if settings["encoder"]:
            model = BertForSequenceClassification.from_pretrained(settings["encoder"], **rates)
        else:
            sizes = settings["config"]
            model = BertForSequenceClassification(
                BertConfig(
                    hidden_size=sizes["hidden_size"],
                    num_hidden_layers=sizes["num_layers"],
                    num_attention_heads=sizes["num_heads"],
                    intermediate_size=sizes["intermediate_size"],
                    **rates,
                )
            )
        self._model = model.to(self._device).train()
        self._call = torch.compile(self._model, dynamic=True) if rest else self._model
        self._optimizer = torch.optim.AdamW(
            model.parameters(), lr=5e-5, weight_decay=0.01, fused=self._device.type == "cuda"
        )
        self._autocast = (
            torch.autocast(self._device.type, torch.bfloat16)
            if precision == "bf16"
            else contextlib.nullcontext()
        )
        self._workload, self._length = workload, workload.max_length if padding == "pad" else None
        self._batches: Iterator[np.ndarray] = workload.batches(
            settings["examples"], settings["turn"], grouped=padding == "grouped"
        )

    def steps(self, count: int) -> tuple[int, int]:
        """Takes steps; returns their numbers of examples and of real tokens."""
        examples = tokens = 0
        for _ in range(count):
            chosen = next(self._batches)
            batch = {
                name: torch.from_numpy(array.astype(np.int64)).to(self._device, non_blocking=True)
                for name, array in self._workload.padded(chosen, self._length).items()
            }
            with self._autocast:
                loss = self._call(
                    input_ids=batch["token_ids"],
                    token_type_ids=batch["type_ids"],
                    attention_mask=batch["mask"],
                    labels=batch["labels"],
                ).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
            self._optimizer.step()
            self._optimizer.zero_grad()
            examples += len(chosen)
            tokens += int(self._workload.lengths[chosen].sum())
        loss.item()
        return examples, tokens

    def device_peak(self) -> int | None:
        """Most bytes held on the accelerator, if there is one."""
        return torch.cuda.max_memory_allocated() if self._device.type == "cuda" else None
