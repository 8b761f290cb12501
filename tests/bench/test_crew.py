"""Members of a run that hang, or end: what whoever started them is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import pytest

from peers.crew import Crew
from peers.failure import BenchFailed
from peers.lines import Ready

if TYPE_CHECKING:
    from phalanx.transport.testing.lab import Lab

READY = "print('{\"ready\":true}', flush=True)"


class Here:
    """Starts members on this very host."""

    def spawn(self, host: str, argv: Sequence[str], **popen: Any) -> subprocess.Popen[Any]:
        """As the lab does."""
        del host
        return subprocess.Popen(argv, **popen)


def start(crew: Crew, **programs: str) -> None:
    """Members by host."""
    for host, program in programs.items():
        crew.start(host, [sys.executable, "-c", program])


def test_of_a_member_that_hangs_it_is_told_where() -> None:
    """The others are not blamed."""
    with Crew(cast("Lab", Here())) as crew:
        start(crew, alpha=READY, bravo="def hang():\n while True: pass\nhang()")
        with pytest.raises(BenchFailed, match=r"^bravo did not say Ready in 2 s\nbravo:") as failed:
            crew.gather(Ready, 2.0)
    assert "in hang" in str(failed.value)


def test_of_a_member_that_ends_the_last_words_are_told() -> None:
    """With its status."""
    with Crew(cast("Lab", Here())) as crew:
        start(crew, alpha="raise SystemExit('no such network')")
        with pytest.raises(BenchFailed, match=r"(?s)alpha ended .*status 1.*no such network"):
            crew.gather(Ready, 10.0)
