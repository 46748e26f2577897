"""A server for development and tests that speaks the model server's API."""
