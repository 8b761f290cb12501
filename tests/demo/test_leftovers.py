"""What a killed demo leaves is removed by the next one; what a running demo needs is not."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from phalanx.barrier.demo_leftovers import own_folder, own_tag, remove_leftovers
from phalanx.transport.testing.lab import lab_names

KILLED = """
import os, signal, sys
from phalanx.barrier.demo_leftovers import own_folder, own_tag
from phalanx.barrier.demo_stage import LabStage
with own_folder() as folder, LabStage(1, 1):
    print(own_tag(), folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
LONG_AGO = "demo-1-99"
"""Process 1 is there, and did not start then."""


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.mark.netns
def test_what_a_killed_demo_has_left_is_removed_and_said() -> None:
    """Nothing can be removed by one who is killed, and namespaces stay until the next boot."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED], capture_output=True, text=True, check=False, timeout=30
    )
    tag, folder = done.stdout.split()
    assert tag in lab_names()
    assert Path(folder).is_dir()
    said = "\n".join(remove_leftovers(labs=True))
    assert f"(lab {tag})" in said
    assert f"({folder})" in said
    assert tag not in lab_names()
    assert not Path(folder).exists()
    assert not [name for name in os.listdir("/run/netns") if tag in name]


def test_a_running_demo_is_left_alone() -> None:
    """Two people, or two terminals, may play it at the same time."""
    with own_folder() as folder:
        assert folder.name.startswith(f"phalanx-{own_tag()}-")
        assert list(remove_leftovers(labs=False)) == []
        assert folder.is_dir()
    assert not folder.exists()


def test_only_folders_of_dead_demos_are_removed(tmp_path: Path) -> None:
    """Names of others look alike; and a demo in a container has a pid that means nothing here."""
    names = ("phalanx-demo-x", "phalanx-other-1-99-x", f"phalanx-{LONG_AGO}-busy")
    for name in (*names, f"phalanx-{LONG_AGO}-x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cluster.toml").touch()
    busy = os.open(tmp_path / names[-1], os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(busy, fcntl.LOCK_EX)
        assert len(list(remove_leftovers(labs=False))) == 1
    finally:
        os.close(busy)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
