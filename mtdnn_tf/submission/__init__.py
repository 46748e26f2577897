"""Submissions to the GLUE benchmark."""
