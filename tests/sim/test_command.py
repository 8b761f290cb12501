"""`phalanx sim`: what it plays, what it says of a failure, and that one can be played again."""

from __future__ import annotations

from pathlib import Path

import pytest

from phalanx.barrier.sim_command import SimOptions, parse_seeds, read_plan, run
from phalanx.barrier.testing import shrink
from phalanx.barrier.testing.plan import draw_plan
from phalanx.barrier.testing.verdict import judge
from phalanx.transport.core import proposal
from phalanx.transport.wire import Source


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("17", (17,)), ("1..4", (1, 2, 3, 4)), ("3,5,8..9", (3, 5, 8, 9)), ("0..0", (0,))],
)
def test_seeds_are_single_numbers_and_ranges(text: str, seeds: tuple[int, ...]) -> None:
    """As people write them."""
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "x", "4..1", "-1", "1..", "1...3", "1, ,2"])
def test_what_is_no_seed_is_refused_in_words(text: str) -> None:
    """A typing error must not play something else."""
    with pytest.raises(ValueError, match="seed"):
        parse_seeds(text)


def test_runs_that_hold_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """A summary that names what happened, so that nobody takes an empty run for a proof."""
    assert run(SimOptions(seeds=(1, 2, 3), nodes=3, jobs=1)) == 0
    said = capsys.readouterr().out
    assert "3 runs: every guarantee held" in said
    assert "views installed" in said
    assert "faults:" in said


def test_a_trace_tells_the_whole_run(tmp_path: Path) -> None:
    """Frames, events and faults in words; its last line is the hash of all histories."""
    path = tmp_path / "trace.txt"
    assert run(SimOptions(seeds=(3,), nodes=3, trace=path)) == 0
    text = path.read_text()
    for word in ("1 -> 2 3", "PREPARE k=1", "ViewInstalled V1.1", "# fault: ", "<--", "delivers"):
        assert word in text
    assert judge(draw_plan(3, 3)).trace in text.splitlines()[-1]


def nobody_lacks_anything(*_: object) -> dict[int, tuple[Source, ...]]:
    """Leaves out the step in which members fetch what they lack of the cut."""
    return {}


def test_a_failure_is_told_made_smaller_and_played_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With a rule left out: the seed, the step, what led to it, and a plan with less in it."""
    monkeypatch.setattr(proposal, "sources", nobody_lacks_anything)
    monkeypatch.setattr(shrink, "RUNS_MAX", 12)
    seed = next(seed for seed in range(50) if not judge(draw_plan(seed)).held)
    assert run(SimOptions(seeds=(seed,), jobs=1, keep=tmp_path)) == 1
    said = capsys.readouterr()
    assert f"1 of 1 runs broke a guarantee: seeds {seed}" in said.out
    for word in (
        f"seed {seed}, ",
        "broken at step",
        f"--seeds {seed}",
        "again: phalanx sim --plan",
    ):
        assert word in said.err
    [path] = tmp_path.iterdir()
    smaller = read_plan(path)
    assert len(smaller.faults) < len(draw_plan(seed).faults)
    assert run(SimOptions(seeds=(), jobs=1, plan=smaller, shrink=False)) == 1
    monkeypatch.undo()
    assert run(SimOptions(seeds=(), jobs=1, plan=smaller)) == 0, "it was the rule"


def test_a_file_that_is_no_plan_is_refused_in_words(tmp_path: Path) -> None:
    """It may be any file."""
    path = tmp_path / "plan.json"
    path.write_text('{"seed": 3}')
    with pytest.raises(ValueError, match=r"plan\.json: no plan: .*size"):
        read_plan(path)
