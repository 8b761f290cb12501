"""What the long runs on real rails stand on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from phalanx.transport.testing.fixtures import MakeLab

from ..netns.harness import Fleet


@pytest.fixture
def fleet(make_lab: MakeLab, tmp_path: Path) -> Iterator[Fleet]:
    """Three nodes in one view, all their own."""
    fleet = Fleet(make_lab(), tmp_path)
    try:
        fleet.make_whole()
        yield fleet
    finally:
        fleet.end()
