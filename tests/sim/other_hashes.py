"""What another process says, in which sets and dicts of strings have another order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 120


def said_under(hash_seed: int, script: str) -> str:
    """What a script prints in a fresh interpreter with that PYTHONHASHSEED."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=SECONDS_MAX,
    )
    return done.stdout
