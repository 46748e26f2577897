"""The commands: flags, build, call."""
