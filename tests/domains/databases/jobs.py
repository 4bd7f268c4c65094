"""Jobs on databases, each of which bears one at a time."""

import os
import time
from pathlib import Path


def job(database):
    """Hold the database alone for a moment; FileExistsError where somebody else holds it."""
    lock = Path(f"{database}.lock")
    os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
    time.sleep(0.05)
    lock.unlink()
