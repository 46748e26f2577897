"""Where the code runs that is being traced."""

import keras


def runs_op_by_op_on_cpu() -> bool:
    """True in TensorFlow on CPU, outside of XLA.

    There, shapes may depend on the values of tensors, and what each op gives is written to memory.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util  # There is no public way to ask for XLA.

    on_cpu = not any(map(tf.config.list_logical_devices, ("GPU", "TPU")))
    graph = tf.compat.v1.get_default_graph()
    return on_cpu and not control_flow_util.GraphOrParentsInXlaContext(graph)
