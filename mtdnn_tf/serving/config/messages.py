"""Messages of tensorflow_model_server's configuration files that have no stubs in its Python package.

Built at run time from the fields of its own definitions, for the text format, which knows fields by name
(the numbers here are not always the server's):

* `BatchingParameters`: servables/tensorflow/session_bundle_config.proto
* `MonitoringConfig`, `PrometheusConfig`: config/monitoring_config.proto
* `SSLConfig`: config/ssl_config.proto
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2
from google.protobuf.message import Message

PACKAGE = "tensorflow.serving"
INT64_VALUE = ".google.protobuf.Int64Value"
# Message to its fields, numbered from 1.
FIELDS = {
    "BatchingParameters": {
        "max_batch_size": INT64_VALUE,
        "batch_timeout_micros": INT64_VALUE,
        "max_enqueued_batches": INT64_VALUE,
        "num_batch_threads": INT64_VALUE,
        "thread_pool_name": ".google.protobuf.StringValue",
        "allowed_batch_sizes": "repeated int64",
        "pad_variable_length_inputs": "bool",
        "enable_large_batch_splitting": ".google.protobuf.BoolValue",
        "max_execution_batch_size": INT64_VALUE,
    },
    "PrometheusConfig": {"enable": "bool", "path": "string"},
    "MonitoringConfig": {"prometheus_config": f".{PACKAGE}.PrometheusConfig"},
    "SSLConfig": {
        "server_key": "string",
        "server_cert": "string",
        "custom_ca": "string",
        "client_verify": "bool",
    },
}


def _classes() -> dict[str, type[Message]]:
    field_types = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="mtdnn_tf/serving/config_messages.proto",
        package=PACKAGE,
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    for message, fields in FIELDS.items():
        described = file.message_type.add(name=message)
        for number, (name, kind) in enumerate(fields.items(), start=1):
            field = described.field.add(name=name, number=number)
            is_repeated = kind.startswith("repeated ")
            field.label = field_types.LABEL_REPEATED if is_repeated else field_types.LABEL_OPTIONAL
            if kind.startswith("."):
                field.type, field.type_name = field_types.TYPE_MESSAGE, kind
            else:
                field.type = field_types.Type.Value(f"TYPE_{kind.split()[-1].upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in FIELDS
    }


_CLASSES = _classes()
BatchingParameters = _CLASSES["BatchingParameters"]
MonitoringConfig = _CLASSES["MonitoringConfig"]
SSLConfig = _CLASSES["SSLConfig"]
