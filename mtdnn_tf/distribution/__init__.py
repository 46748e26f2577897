"""Devices and processes that share the work, and the signals that stop it."""
