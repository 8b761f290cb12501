"""`phalanx node`: what a user sees in three terminals."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest

from phalanx.barrier.node_command import lost_words, printable, refused_words
from phalanx.transport.testing.memory import memory_cluster

from .conftest import COMMAND, MakeConfig, RunCommand, Start

NAMES = ("alpha", "bravo", "charlie")


def test_three_nodes_talk_and_one_leaves(start: Start, make_config: MakeConfig) -> None:
    """The first thing that anybody tries, from the first terminal to Ctrl-C in one of them."""
    config = make_config(3)
    alpha = start("node", config, "alpha", "--echo")
    alpha.expect("waiting: .*")  # the first of three terminals must not look hung
    bravo = start("node", config, "bravo", "--echo")
    charlie = start("node", config, "3", "--echo")
    nodes = dict(zip(NAMES, (alpha, bravo, charlie), strict=True))
    for node in nodes.values():
        node.expect(r"view [\d.]+: alpha, bravo, charlie")

    alpha.say("good morning")
    for node in nodes.values():
        node.expect("^alpha: good morning$")

    # The end of its input ends the line to it, not the node.
    assert alpha.child.stdin is not None
    alpha.child.stdin.close()
    bravo.say("still there?")
    for node in nodes.values():
        node.expect("^bravo: still there\\?$")

    assert charlie.end(signal.SIGINT) == 0
    assert "left" in charlie.text.splitlines()[-1]
    for node in (alpha, bravo):
        node.expect(r"view [\d.]+: alpha, bravo \(charlie left: ")
    for node in (bravo, alpha):
        assert node.end(signal.SIGTERM) == 0
        assert "Traceback" not in node.text


def test_ctrl_c_while_joining_ends_at_once(start: Start, make_config: MakeConfig) -> None:
    """Whoever sees that the others are not coming must be able to stop waiting."""
    node = start("node", make_config(3), "alpha")
    node.expect("waiting: ")
    assert node.end(signal.SIGINT) == 0
    assert "Traceback" not in node.text


def test_nobody_comes_in_time(run_command: RunCommand, make_config: MakeConfig) -> None:
    """With a timeout the command ends, says who was missing, and fails."""
    done = run_command(["node", make_config(3), "alpha", "--timeout", "1"])
    assert done.returncode == 1
    assert "no view within 1 s" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_node_that_is_forced_alone_says_what_it_waits_for(
    run_command: RunCommand, make_config: MakeConfig
) -> None:
    """Force replaces records and no votes; and it is not the word for coming back alone."""
    config = make_config(3)
    done = run_command(["node", config, "alpha", "--force", "--timeout", "1"])
    assert done.returncode == 1
    assert (
        "started with --force: waits for a majority of the votes to be started so; "
        "not yet: bravo (2), charlie (3)"
    ) in done.stderr
    done = run_command(["node", config, "alpha", "--force", "--readmit"])
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_node_runs_once_on_a_machine(
    start: Start, run_command: RunCommand, make_config: MakeConfig
) -> None:
    """Two processes with one identity would contradict each other."""
    config = make_config(1)
    start("node", config, "alpha").expect("has joined")
    done = run_command(["node", config, "alpha"])
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_a_taken_port_is_one_line_with_status_1(
    start: Start, run_command: RunCommand, make_config: MakeConfig, tmp_path: Path
) -> None:
    """The port is the machine's affair, not the file's: another status than that of an error."""
    config = make_config(1)
    start("node", config, "alpha").expect("has joined")
    second = tmp_path / "second.toml"
    state = config.with_suffix(".state")
    second.write_text(config.read_text().replace(str(state), str(tmp_path / "elsewhere")))
    done = run_command(["node", second, "alpha"])
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "taken" in done.stderr


def test_lines_may_come_from_a_file(start: Start, make_config: MakeConfig, tmp_path: Path) -> None:
    """A file cannot be waited for as a pipe can; its last line may lack its end."""
    lines = tmp_path / "lines"
    lines.write_text("first\nsecond")
    with lines.open("rb") as stdin:
        node = start("node", make_config(1), "alpha", "--echo", stdin=stdin)
    node.expect("^alpha: first$")
    node.expect("^alpha: second$")
    assert node.end(signal.SIGINT) == 0


@pytest.mark.parametrize("stdin", ["<&-", "</dev/null"])
def test_a_node_runs_without_input(make_config: MakeConfig, stdin: str) -> None:
    """Services are started without a terminal."""
    config = make_config(1)
    script = f'exec "$@" node {config} alpha {stdin} 2>&1'
    with subprocess.Popen(["sh", "-c", script, "sh", *COMMAND], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        written = b""
        while b"has joined" not in written and (data := os.read(child.stdout.fileno(), 4096)):
            written += data
        child.send_signal(signal.SIGTERM)
        written += child.stdout.read()
    assert child.returncode == 0
    assert b"left" in written.splitlines()[-1]
    assert b"Traceback" not in written


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        ("grüße 你好".encode(), "grüße 你好"),
        (b"\x1b[2Jgone", "\\x1b[2Jgone"),
        (b"a\tb\r\nc", "a\tb\\r\\nc"),
        (b"\xff\x00", "\\xff\\x00"),
    ],
)
def test_messages_cannot_steer_the_terminal(payload: bytes, shown: str) -> None:
    """A message comes from another machine; on this screen it is text and nothing else."""
    assert printable(payload) == shown


@pytest.mark.parametrize(
    ("nodes", "reachable", "words"),
    [
        (3, (), "no contact to a majority any more (reachable: nobody); lines typed now are"),
        (3, (3,), "not acting: n3 reachable, but not all in the view yet; lines typed now are"),
        (4, (3,), "no contact to a majority any more (reachable: n3); lines typed now are"),
        (4, (2, 4), "not acting: n2, n4 reachable, but not all in the view yet; lines typed now"),
    ],
)
def test_a_lost_majority_is_told_as_it_is(
    nodes: int, reachable: tuple[int, ...], words: str
) -> None:
    """Lines are refused, not kept; and a majority that is there is not called absent."""

    async def scene() -> str:
        async with memory_cluster(nodes) as memory:
            return lost_words(memory.clusters[1], reachable)

    assert asyncio.run(scene()).startswith(words)


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("bravo", "its configuration differs", "turned away bravo: its configuration differs"),
        ("bravo", "it refused us: it is full", "bravo refused us: it is full"),
        ("", "a caller that did not say who it is refused us: x", "a caller that did not say"),
    ],
)
def test_it_is_said_who_refused_whom(name: str, reason: str, words: str) -> None:
    """A node turned away because it turned us away is a riddle."""
    assert refused_words(name, reason).startswith(words)
