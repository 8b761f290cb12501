"""spin finds nothing in the model of a view change, and everything in one that lacks a rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from .checker import Report, aborts, read, search

pytestmark = pytest.mark.slow

SECONDS_MAX = 600
MEMORY_MB_MAX = 2000

BATCH = ("BATCH_ONLY", "HOLDERS_FIRST=5", "PAIRS=0", "DUELS=1")
"""One multicast that one node lacks; the change begins with a crash, or with one node cut off."""

CONFIGURATIONS: dict[str, tuple[str, ...]] = {
    "a crash while a barrier is in flight": (
        *("CRASHES=1", "TROUBLES=0", "CUTS=0", "ROUNDS=4"),
        "ARRIVED=3",
    ),
    "a suspicion, and a crash at any point": ("CRASHES=1", "TROUBLES=0", *BATCH),
    "a suspicion, and a trouble at any point": ("CRASHES=0", "TROUBLES=1", "ROUNDS=6", *BATCH),
}

UNREACHED_ALLOWED = frozenset(
    {
        "end of a process",  # nodes go on for ever
        # In these searches one node is cut off from all; two from each other in tests/prove.
        ":: PAIRS -> cut_a = 0; cut_b = 1",
        ":: PAIRS -> cut_a = 0; cut_b = 2",
        ":: PAIRS -> cut_a = 1; cut_b = 2",
    }
)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """Each configuration searched once."""
    found: dict[str, Report] = {}
    for number, (name, defines) in enumerate(CONFIGURATIONS.items()):
        folder = tmp_path_factory.mktemp(f"model-{number}")
        found[name] = search(folder, *defines, seconds_max=SECONDS_MAX, memory_mb_max=MEMORY_MB_MAX)
        print(f"{name}: {found[name]}")
    return found


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_no_assertion_fails_and_nothing_hangs(reports: dict[str, Report], name: str) -> None:
    """Agreement, view synchrony, one primary, barriers; once faults stop, all have agreed."""
    assert reports[name].error == ""
    assert reports[name].complete


def test_every_abort_is_reached(reports: dict[str, Report]) -> None:
    """Phases that are given up are where such protocols broke; a model that never does proves
    little."""
    first, *others = (report.unreached for report in reports.values())
    never = first.intersection(*others)
    assert len(aborts()) == 11
    assert not never & aborts()
    assert not never - UNREACHED_ALLOWED


CRASH = ("CRASHES=1", "TROUBLES=0")
STILL = ("CRASHES=0", "TROUBLES=0", "CUTS=0")
MUTANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "SKIP_HOLD": ("cut[decided]&", (*CRASH, "ARRIVED=7", "KNOWN=14", "PAIRS=0", "DUELS=1")),
    "DECIDE_BY_ONE": ("decided==0", (*CRASH, *BATCH)),
    "ADOPT_NOTHING": ("decided==0", (*CRASH, *BATCH)),
    "FORGET_ACCEPTED": ("decided==0", (*CRASH, *BATCH)),
    "VOTE_AT_ONCE": ("standing[0]==2", (*CRASH, "QUIET", *BATCH)),
    "REOPEN_ON_ABORT": ("closed", ("CRASHES=0", "TROUBLES=1", "ROUNDS=6", "INTERLEAVED", *BATCH)),
    "ACCEPT_BEFORE_GRANTS_OUT": ("standing[0]==2", ("CRASHES=0", "TROUBLES=0", *BATCH)),
    "COUNT_ARRIVALS": ("epoch[0]", (*STILL, "SECOND=2", "ARRIVED=1")),
    "IGNORE_MARKS": ("delivered", (*STILL, "ARRIVED=7")),
}
"""What is left out, the assertion that must fail, and where to look."""


@pytest.mark.parametrize("rule", MUTANTS)
def test_a_model_without_the_rule_is_refuted(rule: str, tmp_path: Path) -> None:
    """An assertion that never fails checks nothing."""
    assertion, defines = MUTANTS[rule]
    report = search(tmp_path, rule, *defines, seconds_max=SECONDS_MAX, memory_mb_max=MEMORY_MB_MAX)
    assert report.error.startswith("assertion violated")
    assert assertion in report.error


def test_what_cannot_go_on_is_an_error(tmp_path: Path) -> None:
    """A deadlock counts as one: with too few rounds of ballots the bound is reported."""
    defines = ("CRASHES=1", "TROUBLES=0", "ROUNDS=1", *BATCH)
    report = search(tmp_path, *defines, seconds_max=60, memory_mb_max=MEMORY_MB_MAX)
    assert "its_round<=1" in report.error


def test_a_search_that_ended_early_is_not_taken_for_a_proof() -> None:
    """Too little depth or memory must not look like success."""
    output = (
        "error: max search depth too small\nState-vector 9 byte, depth reached 9, errors: 0\n"
        "   10 states, stored\n   10 transitions (= stored+matched)\n"
        "  1.0\ttotal actual memory usage\n"
    )
    assert not read(output).complete
