"""What a run is asked to do: its settings, and the YAML that they are read from."""
