"""Requests that a model server runs before it lets a new version answer."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog

if TYPE_CHECKING:
    from mtdnn_tf.runs.loading import MTDNN

# Where tensorflow_model_server looks in the folder of a version.
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
BATCH_SIZES = (1, 32)
SENTENCES = (
    "Warm.",
    "The second request should be as fast as the thousandth.",
    "A longer sentence, with a clause or two that other requests may have as well, is what the "
    "layers over single tokens see most of on an ordinary day.",
)


def write_warmup(
    folder: Path,
    name: str,
    loaded: "MTDNN",
    signatures: Mapping[str, tf.types.experimental.ConcreteFunction],
) -> None:
    """Writes a small and a full batch for every signature.

    Args:
        folder: The folder of the version.
        name: What the model is called.
        loaded: The trained model.
        signatures: Its signatures by name.
    """
    path = folder / WARMUP_FILE
    path.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in _requests(name, loaded, signatures):
            writer.write(log.SerializeToString())


def _requests(
    name: str,
    loaded: "MTDNN",
    signatures: Mapping[str, tf.types.experimental.ConcreteFunction],
) -> Iterator[PredictionLog]:
    for signature, function in signatures.items():
        for size in BATCH_SIZES:
            texts = [SENTENCES[row % len(SENTENCES)] for row in range(size)]
            request = PredictRequest()
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            for spec in function.structured_input_signature[0]:
                values = texts
                if spec.dtype == tf.int32:
                    values = loaded.tokenizer.encode(texts)[0].to_tensor(loaded.tokenizer.pad_id)
                elif (signature, spec.name) == ("serving_default", "task"):
                    values = [list(loaded.tasks)[row % len(loaded.tasks)] for row in range(size)]
                request.inputs[spec.name].CopyFrom(tf.make_tensor_proto(values))
            yield PredictionLog(predict_log=PredictLog(request=request))
