"""Larger searches of the model of a view change: four nodes, pairs cut off, withdrawals."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..spin.checker import search

pytestmark = pytest.mark.slow

SECONDS_MAX = 3600
MEMORY_MB_MAX = 8000

CRASH = ("CRASHES=1", "TROUBLES=0", "CUTS=0", "ROUNDS=4")
"""The change begins with the crash; it may start again at any point."""

BATCH = ("BATCH_ONLY", "PAIRS=0", "DUELS=1")
"""One multicast, sent or not and with any of the nodes when the change begins."""

CONFIGURATIONS: dict[str, tuple[str, ...]] = {
    "four nodes, one crash": ("N=4", "BATCH_ONLY", *CRASH),
    "one crash, nothing saved": ("INTERLEAVED", "ARRIVED=3", *CRASH),
    "one crash, and an arrival taken back": ("SECOND=1", "ARRIVED=3", *CRASH),
    "a suspicion, and a crash": ("CRASHES=1", "TROUBLES=0", *BATCH),
    "a suspicion, and a trouble": ("CRASHES=0", "TROUBLES=1", "ROUNDS=6", *BATCH),
    "one crash, a pair cut off": ("CRASHES=1", "TROUBLES=0", "ROUNDS=7", "DUELS=2", "QUIET"),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_no_assertion_fails_and_nothing_hangs(name: str, tmp_path: Path) -> None:
    """The same assertions as in `tests/spin`, over more states."""
    report = search(
        tmp_path, *CONFIGURATIONS[name], seconds_max=SECONDS_MAX, memory_mb_max=MEMORY_MB_MAX
    )
    print(f"{name}: {report}")
    assert report.error == ""
    assert report.complete


def test_a_promise_that_is_not_durable_is_refuted(tmp_path: Path) -> None:
    """It takes a restart between two proposers, hence a crash and two cuts."""
    defines = ("CRASHES=1", "TROUBLES=1", "ROUNDS=8", "DUELS=2", "PAIRS=0", "QUIET")
    report = search(
        tmp_path,
        "PROMISE_NOT_DURABLE",
        *defines,
        seconds_max=SECONDS_MAX,
        memory_mb_max=MEMORY_MB_MAX,
    )
    assert "decided==0" in report.error
