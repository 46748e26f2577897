"""MT-DNN in TensorFlow: one shared encoder, a named output per task.

>>> import mtdnn_tf
>>> model = mtdnn_tf.load("runs/glue")  # doctest: +SKIP
>>> model.predict("sst2", ["A moving film."])  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtdnn_tf.experiment.plugins import register
    from mtdnn_tf.runs.ensemble import load_ensemble
    from mtdnn_tf.runs.loading import MTDNN, Prediction, load

__all__ = ["MTDNN", "Prediction", "load", "load_ensemble", "register"]


def __getattr__(name: str) -> Any:
    if name == "register":
        from mtdnn_tf.experiment.plugins import register

        return register
    # TensorFlow takes seconds to import: only when it is needed.
    if name in __all__:
        from mtdnn_tf.runs import ensemble, loading

        return getattr(ensemble if name == "load_ensemble" else loading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
