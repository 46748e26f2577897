"""The configuration files of tensorflow_model_server."""
