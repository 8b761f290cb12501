"""A short performance of the whole demo."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from phalanx.barrier import demo
from phalanx.transport.testing.lab import lab_names

from .conftest import RunCommand, Start

KEYS = [
    "nodes",
    "driver",
    "sent",
    "delivered",
    "lost",
    "duplicated",
    "reordered",
    "gap_ms",
    "views",
    "barriers",
    "crash_detected_ms",
    "rejoined_ms",
]
UNREPORTED_S = 0.5
"""From the last report of the process that is killed to its end, on a busy machine."""
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.netns
def test_a_short_demo_loses_nothing_and_says_so(run_command: RunCommand, tmp_path: Path) -> None:
    """The main job: two rail faults and a death, and every message where it belongs."""
    picture = tmp_path / "demo.png"
    kept = tmp_path / "histories"
    arguments = ["demo", "--seconds", "6", "--rate", "200", "--json", "--output", picture]
    done = run_command([*arguments, "--keep", kept], timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1, "with --json there is nothing else"
    result = json.loads(done.stdout)
    assert list(result) == KEYS
    assert (result["lost"], result["duplicated"], result["reordered"]) == (0, 0, 0)
    assert result["nodes"] == 3
    # One of three is away for a sixth of the time or so.
    assert result["sent"] > 200 * 6 * 3 * 0.6
    assert result["delivered"] > 2 * result["sent"]
    assert set(result["gap_ms"]) == {"drop", "link_down"}
    assert result["barriers"]["released"] > 20
    assert result["crash_detected_ms"] > 0
    assert result["rejoined_ms"] > 0
    members = [view["members"] for view in result["views"]]
    assert members[-1] == [1, 2, 3]
    assert [1, 2] in members
    for words in ("silently dropped", "link of charlie", "killed", "Nothing was lost"):
        assert words in done.stderr
    assert picture.read_bytes().startswith(PNG)
    assert len(picture.read_bytes()) > 10_000
    assert "nothing to check: 7." in done.stderr
    judged = run_command(["check", kept])
    assert judged.returncode == 0, judged.stdout
    written = re.search(r" ([\d,]+) messages sent", judged.stdout)
    assert written is not None, judged.stdout
    # Of what the killed one sent after its last report, only its history knows.
    assert 0 <= int(written[1].replace(",", "")) - result["sent"] <= 200 * UNREPORTED_S
    assert "4 starts of 3 nodes" in judged.stdout
    again = run_command([*arguments, "--keep", kept])
    assert again.returncode == demo.EXIT_USAGE
    assert "there is something in it" in again.stderr


@pytest.mark.netns
@pytest.mark.parametrize("driver", ["auto", "multicast"])
def test_a_demo_with_multicast_loses_nothing(
    run_command: RunCommand, tmp_path: Path, driver: str
) -> None:
    """SCTP is blocked everywhere for a while, or there is none at all."""
    arguments = ["demo", "--seconds", "8", "--rate", "200", "--json", "--multicast"]
    picture = tmp_path / "demo.png"
    done = run_command([*arguments, "--driver", driver, "--output", picture], timeout=60)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["lost"], result["duplicated"], result["reordered"]) == (0, 0, 0)
    faults = {"drop", "link_down", *(("block", "unblock") if driver == "auto" else ())}
    assert set(result["gap_ms"]) == faults
    assert ("SCTP let through again" in done.stderr) is (driver == "auto")
    assert picture.stat().st_size > 10_000


@pytest.mark.netns
def test_ctrl_c_leaves_nothing_behind(start: Start, tmp_path: Path) -> None:
    """Namespaces that nobody knows of would stay until the machine is started again."""
    before = set(lab_names())
    running = start("demo", "--seconds", "30", "--output", tmp_path / "demo.png")
    running.expect("everybody multicasts")
    assert any(str(running.child.pid) in name for name in set(lab_names()) - before)
    assert running.end(signal.SIGINT) == demo.EXIT_INTERRUPTED
    assert not any(str(running.child.pid) in name for name in lab_names())
    assert "Traceback" not in running.text


@pytest.mark.netns
def test_a_process_that_dies_ends_the_demo(start: Start, tmp_path: Path) -> None:
    """A demo that goes on without one of its nodes would report on something else."""
    running = start("demo", "--seconds", "30", "--output", tmp_path / "demo.png")
    running.expect("everybody multicasts")
    children = _children_of(running.child.pid)
    assert len(children) == 3
    os.kill(children[0], signal.SIGKILL)
    running.expect("ended unexpectedly")
    assert running.end() == 1
    assert not any(str(running.child.pid) in name for name in lab_names())


def _children_of(pid: int) -> list[int]:
    listing = subprocess.run(
        ["ps", "--ppid", str(pid), "-o", "pid=,args="], capture_output=True, text=True, check=True
    )
    lines = [line.split(maxsplit=1) for line in listing.stdout.splitlines()]
    return [int(number) for number, command in lines if "demo_worker" in command]


def test_without_namespaces_it_runs_on_loopback_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """On a machine that allows nothing the demo still shows a death and a return."""
    monkeypatch.setattr(demo, "capability", lambda: "none: not allowed here")
    options = demo.Options(seconds=5, rate=200, output=tmp_path / "demo.png")
    assert demo.run(options) == 0
    written = capsys.readouterr().out
    assert "not allowed here" in written
    assert "the rails are not broken" in written
    result = json.loads(written.splitlines()[-1])
    assert (result["lost"], result["duplicated"], result["reordered"]) == (0, 0, 0)
    assert result["gap_ms"] == {}
    assert result["rejoined_ms"] > 0
