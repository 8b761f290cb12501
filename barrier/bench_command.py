"""`phalanx bench`: the programs that measure phalanx beside its peers; the sources have them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from phalanx.transport.errors import EnvironmentTrouble

FOLDER = Path(__file__).resolve().parents[1] / "bench"
NAMES = ("barrier", "failover", "link", "multicast", "order", "scale", "spread")


def program(name: str, folder: Path = FOLDER) -> Path:
    """Where a program is.

    Raises:
        EnvironmentTrouble: this is an installation without sources.
    """
    found = folder / f"{name}.py"
    if not found.is_file():
        raise EnvironmentTrouble(
            f"{found} is not there: the benchmarks come with the sources of phalanx, not with an "
            "installation; run this in a clone"
        )
    return found


def run(name: str, arguments: Sequence[str]) -> int:
    """Become that program; returns only if it cannot be had.

    Raises:
        EnvironmentTrouble: see `program`.
    """
    path = program(name)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, str(path), *arguments])
