"""The training run of a guided build: a compiler learns nothing from work that was not done."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from phalanx.barrier.testing import training

SHORTER = 50


def test_the_members_of_a_cluster_work_to_the_end() -> None:
    """Processes of their own, as in a build."""
    training.train(2, SHORTER)


def test_a_member_that_fails_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its exit status fails the run: otherwise the build would be guided by nothing."""
    assert training.main(str(tmp_path / "not-there.toml"), "node-1", "1") == 1
    assert "training run: " in capsys.readouterr().err


def test_a_run_fails_with_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and the other members are ended."""
    monkeypatch.setattr(training, "MODULE", "phalanx.not_there")
    with pytest.raises(subprocess.CalledProcessError):
        training.train(2, SHORTER)
