"""The versions in the folder of a model."""

from pathlib import Path


def versions(export_dir: Path) -> list[int]:
    """The versions in a model's folder, in order."""
    if not export_dir.is_dir():
        return []
    return sorted(int(path.name) for path in export_dir.iterdir() if path.name.isdecimal())
