"""What must outlive a power cut. Owns the waiting for the disk."""

import os
from pathlib import Path


def to_disk(*paths: Path) -> None:
    """Return once files and folders (the names in them) are on the disk; raises `OSError` where it refuses."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
