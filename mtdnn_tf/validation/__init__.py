"""Checks that all settings share, and the YAML reader."""
