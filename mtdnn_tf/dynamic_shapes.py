"""Whether a tensor's shape may depend on the values of another, where code is being traced."""

import keras


def shapes_may_depend_on_values() -> bool:
    """True in TensorFlow on CPU, outside of XLA; elsewhere it is impossible, or not worth it."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util  # There is no public way to ask for XLA.

    on_cpu = not any(map(tf.config.list_logical_devices, ("GPU", "TPU")))
    graph = tf.compat.v1.get_default_graph()
    return on_cpu and not control_flow_util.GraphOrParentsInXlaContext(graph)
