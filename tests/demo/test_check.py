"""`phalanx check`: verdicts, exit statuses, and words for files that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from phalanx.barrier import check_command
from phalanx.transport.events import Lane, Member, ViewId
from phalanx.transport.testing.guarantees import GUARANTEES
from phalanx.transport.testing.history import (
    SUFFIX,
    AnyRecord,
    Began,
    Got,
    Installed,
    Sent,
    encode,
    name_of,
)

from .conftest import RunCommand

VIEW = ViewId(1, 1)
MEMBERS = (Member(1, 1), Member(2, 1))


def run_of(folder: Path, *given: bytes, clock: str = "") -> Path:
    """Node 1 has sent a, b and c; node 2 was given these."""
    names = [name_of(payload) for payload in (b"a", b"b", b"c")]
    sends: list[AnyRecord] = [
        Sent(2 + n, n + 1, Lane.FIFO, 0, (name,), accepted=True) for n, name in enumerate(names)
    ]
    got = Got(9, 1, Lane.FIFO, VIEW, tuple(map(name_of, given)))
    for node, records in ((1, sends), (2, [got])):
        began = Began(0, node, 1, clock and f"{clock} {node}")
        lines = [began, Installed(1, VIEW, MEMBERS), *records]
        (folder / f"{node}{SUFFIX}").write_bytes(b"".join(map(encode, lines)))
    return folder


def row(output: str, name: str) -> list[str]:
    """The cells of a guarantee's row."""
    line = next(line for line in output.splitlines() if f" {name} " in line)
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_a_run_in_order_is_held_and_says_what_was_not_tested(
    tmp_path: Path, run_command: RunCommand
) -> None:
    """The table has all thirteen; what the run did not exercise is not called held."""
    done = run_command(["check", run_of(tmp_path, b"a", b"b", b"c")])
    assert (done.returncode, done.stderr) == (0, "")
    for guarantee in GUARANTEES:
        assert row(done.stdout, guarantee.name)[0] == str(guarantee.number)
    assert row(done.stdout, "FIFO") == ["2", "FIFO", "held", "3", "deliveries"]
    assert row(done.stdout, "safe delivery")[2:4] == ["nothing to check", "0"]
    assert "2 starts of 2 nodes, 3 messages sent" in done.stdout


def test_a_breach_is_told_with_its_guarantee(tmp_path: Path, run_command: RunCommand) -> None:
    """The first breaches are shown; the exit status is for scripts."""
    done = run_command(["check", run_of(tmp_path, b"b", b"a", b"b", b"never sent")])
    assert done.returncode == check_command.EXIT_BROKEN
    assert row(done.stdout, "integrity")[2] == "broken"
    assert row(done.stdout, "FIFO")[2] == "broken"
    assert row(done.stdout, "one stream")[2] == "held"
    assert "1 integrity: 2 breaches" in done.stdout
    assert "2 FIFO: 1 breach\n" in done.stdout


def test_what_is_quiet_is_checked_to_the_end(tmp_path: Path, run_command: RunCommand) -> None:
    """What is still under way at the end of a run is no breach, unless it is said to be quiet."""
    folder = run_of(tmp_path, b"a", b"b")
    assert run_command(["check", folder]).returncode == 0
    done = run_command(["check", "--quiet", folder])
    assert done.returncode == check_command.EXIT_BROKEN
    assert "never heard what became of" in done.stdout


def test_unusable_files_are_named(tmp_path: Path, run_command: RunCommand) -> None:
    """Two files at once, and one of them is damaged in its second line."""
    folder = run_of(tmp_path, b"a")
    path = folder / f"2{SUFFIX}"
    path.write_bytes(path.read_bytes().replace(b'"installed"', b'"instaled"'))
    done = run_command(["check", folder / f"1{SUFFIX}", path])
    assert done.returncode == check_command.EXIT_UNUSABLE
    assert f"{path}:2: no record of a history" in done.stderr
    assert done.stdout == ""


def test_histories_without_a_view_are_unusable(tmp_path: Path, run_command: RunCommand) -> None:
    """Nothing at all would otherwise pass."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(encode(Began(1, 1, 1)))
    done = run_command(["check", path])
    assert done.returncode == check_command.EXIT_UNUSABLE
    assert "in none of these histories is a view" in done.stderr


def test_what_could_not_be_looked_at_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clocks that cannot be compared, and members whose histories are not there."""
    run_of(tmp_path, b"a", clock="of host")
    assert check_command.run([tmp_path], quiet=False) == 0
    assert "different clocks" in capsys.readouterr().out
    (tmp_path / f"1{SUFFIX}").unlink()
    assert check_command.run([tmp_path], quiet=False) == check_command.EXIT_BROKEN
    assert "There is no history of node 1, start 1" in capsys.readouterr().out
