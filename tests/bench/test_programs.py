"""The programs as they are run: arguments, what is missing, a small run, and cleaning up."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from peers import client, compiled, machine, zookeeper
from peers.compiled import Build
from peers.corosync import Corosync, configuration
from peers.lines import Task
from peers.norm import Norm
from peers.openmpi import OpenMpi
from peers.phalanx_cluster import Phalanx
from peers.program import EXIT_INTERRUPTED, EXIT_MISSED, EXIT_USAGE, carry_out
from peers.redis_server import Redis
from peers.stage import Stage
from peers.usrsctp import Usrsctp
from peers.zeromq import ZeroMq
from peers.zookeeper import ZooKeeper
from phalanx.transport.config_file import load
from phalanx.transport.testing.lab import Lab, lab_names

BENCH = Path(__file__).resolve().parents[2] / "bench"
DEADLINE_S = 60
USAGE = 2
"""The status with which the command line refuses arguments."""


def run(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        [sys.executable, str(BENCH / program), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("program", "arguments", "words"),
    [
        ("barrier.py", ["--nodes", "2,x"], "give numbers with commas between"),
        ("barrier.py", ["--nodes", "1"], "use 2 to 16"),
        ("barrier.py", ["--peers-only"], "nothing left to measure"),
        ("barrier.py", ["--peer", "etcd"], "etcd"),
        ("barrier.py", ["--peer", "redis", "--peers-only", "--background", "5"], "phalanx"),
        ("order.py", ["--sizes", "65"], "multiples of 8"),
        ("order.py", ["--sizes", "8"], "use 16 to 1047552"),
        ("multicast.py", ["--losses", "1,51"], "51: use 0 to 50"),
        ("multicast.py", ["--sizes", "100"], "multiples of 8"),
        ("multicast.py", ["--peers-only"], "nothing left to measure"),
        ("link.py", ["--sizes", "20"], "multiples of 8"),
        ("link.py", ["--peers-only"], "nothing left to measure"),
        ("link.py", ["--peer", "corosync"], "corosync"),
        ("failover.py", ["--fault", "fire"], "use one of silent drop"),
        ("failover.py", ["--peers-only"], "nothing left to measure"),
    ],
)
def test_wrong_arguments_are_named(program: str, arguments: list[str], words: str) -> None:
    """Before anything is built, and with what would be right."""
    done = run(program, *arguments)
    assert done.returncode == USAGE
    plain = " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.stderr).split())
    assert words in plain
    assert "Traceback" not in done.stderr


def test_a_missing_peer_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that is missing at once, so that nobody installs one thing after another."""

    def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(machine, "find_tool", nothing)
    monkeypatch.setattr(client, "compiler", nothing)
    monkeypatch.setattr(machine.importlib.util, "find_spec", nothing)

    def work(*_: object) -> NoReturn:
        raise AssertionError("nothing is measured if something is missing")

    monkeypatch.setattr(zookeeper, "JAR", Path("/nowhere/zookeeper.jar"))
    systems = [Phalanx(), Redis(), Corosync(), Norm(), ZeroMq(), Usrsctp(), ZooKeeper(), OpenMpi()]
    status = carry_out("b.py", work, systems, hosts=2, steps=1, json=True, plot=None)
    written = capsys.readouterr()
    assert status == EXIT_USAGE
    assert written.out == ""
    for words in (
        "b.py: redis: the command redis-server is missing; install the Debian package redis-server",
        "-m pip install redis",
        "b.py: corosync: the command corosync is missing; install the Debian package corosync",
        "Debian package gcc",
        "b.py: norm: there is no C++ compiler; install the Debian package g++",
        "-m pip install pyzmq",
        "b.py: usrsctp in C: there is no C compiler; install the Debian package gcc",
        "install the Debian package default-jre-headless",
        "b.py: zookeeper: /nowhere/zookeeper.jar is missing; install the Debian package zookeeper",
        "-m pip install kazoo",
        "install the Debian package openmpi-bin",
        "-m pip install mpi4py",
    ):
        assert words in written.err


def test_the_program_ends_with_that_status(tmp_path: Path) -> None:
    """Through the whole of it: a compiler that is not there is missing on every machine."""
    done = run("barrier.py", "--peer", "corosync", "--json", CC=str(tmp_path / "cc"))
    assert done.returncode == EXIT_USAGE
    assert "there is no C compiler" in done.stderr
    assert done.stdout == ""


def test_a_picture_that_cannot_be_written_is_named_first(tmp_path: Path) -> None:
    """And not after minutes of measuring."""
    done = run("barrier.py", "--plot", str(tmp_path / "picture.xyz"))
    assert done.returncode == EXIT_USAGE
    assert "use one of the suffixes" in done.stderr


def told(text: str) -> dict[str, list[dict[str, Any]]]:
    """What `--json` has printed behind its first line: rows by what they are."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for line in text.splitlines()[1:]:
        row = json.loads(line)
        rows.setdefault(row.get("result", "verdicts"), []).append(row)
    return rows


@pytest.mark.netns
def test_a_small_run_measures_phalanx(tmp_path: Path) -> None:
    """The real program, real members in namespaces of their own, and lines of JSON."""
    compiled.folder(Build.COMPILED)  # before: it takes longer than any run here may
    picture = tmp_path / "barrier.png"
    arguments = ("--nodes", "2", "--rounds", "50", "--runs", "1", "--json")
    arguments += ("--build", "compiled", "--plot", str(picture))
    done = run("barrier.py", *arguments)
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout.splitlines()[0])
    assert first["bench"] == "barrier"
    assert first["machine"]["cores"] >= 1
    assert set(first["versions"]) == {"phalanx"}
    assert first["versions"]["phalanx"].endswith(", compiled")
    result = told(done.stdout)
    assert result.keys() == {"latencies"}, "with --json there is nothing else"
    (row,) = result["latencies"]
    assert (row["system"], row["nodes"], row["rounds"], row["runs"]) == ("phalanx", 2, 50, 1)
    assert 0 < row["p50_us"] <= row["p99_us"]
    assert row["p50_range_us"] == [row["p50_us"], row["p50_us"]]
    assert row["cpu_s_per_million"] >= 0, "so short a run may take less than a tick"
    assert row["size"] is row["msgs_per_s"] is row["mb_per_s"] is None
    assert "run 1 of 1" in done.stderr
    assert picture.stat().st_size > 10_000


@pytest.mark.netns
def test_the_floor_is_measured_on_every_machine() -> None:
    """Bare sockets need nothing that may be missing."""
    arguments = ("--peers-only", "--peer", "udp", "--nodes", "3", "--rounds", "50", "--json")
    done = run("barrier.py", *arguments, "--runs", "1")
    assert done.returncode == 0, done.stderr
    (row,) = told(done.stdout)["latencies"]
    assert (row["system"], row["nodes"]) == ("bare udp", 3)
    assert 0 < row["p50_us"] <= row["p99_us"]


@pytest.mark.netns
def test_a_load_flows_beside_a_barrier() -> None:
    """Idle and loaded runs of the same members, and what has crossed the rails meanwhile."""
    arguments = ("--nodes", "2", "--rounds", "10", "--runs", "1", "--json", "--background", "1")
    done = run("barrier.py", *arguments, "--build", "interpreted")
    # Whether limits are kept is not for a machine that runs tests to say.
    assert done.returncode in (0, EXIT_MISSED), done.stderr
    result = told(done.stdout)
    (measured,) = result["background"]
    assert measured["asked_mb_per_s"] == 1.0
    assert 0.1 < measured["flowed_mb_per_s"] < 10
    assert (measured["idle"]["nodes"], measured["idle"]["rounds"]) == (4, 10)
    assert measured["loaded"]["rounds"] >= 10
    tail, flowed = result["verdicts"]
    assert (tail["limit"], flowed["limit"]) == (5.0, 0.95)
    assert tail["value"] == round(measured["loaded"]["p99_us"] / measured["idle"]["p50_us"], 3)


@pytest.mark.netns
def test_a_multicast_is_measured_with_losses_and_without() -> None:
    """At the receivers, each of which gets everything."""
    arguments = ("--nodes", "3", "--sizes", "1024", "--losses", "0,5", "--runs", "1", "--json")
    # With losses the first 0.5 s may bring next to nothing: what is asked is that it gets going.
    more = ("--seconds", "1.5", "--warm-up", "0.2", "--build", "interpreted", "--unicast")
    done = run("multicast.py", *arguments, *more)
    # Whether limits are kept is not for a machine that runs tests to say.
    assert done.returncode in (0, EXIT_MISSED), done.stderr
    result = told(done.stdout)
    rows = result["goodputs"]
    assert [(row["system"], row["loss_percent"]) for row in rows] == [
        (system, percent) for percent in (0, 5) for system in ("phalanx, fan-out", "phalanx")
    ]
    assert all(row["complete"] and row["gaps"] == 0 and row["msgs_per_s"] > 0 for row in rows)
    assert [verdict["limit"] for verdict in result["verdicts"]] == [0.7, None]


@pytest.mark.netns
def test_a_link_is_measured_beside_what_every_machine_has() -> None:
    """Over SCTP, by datagrams, plain TCP, and the same SCTP in C."""
    arguments = ("--peer", "tcp", "--peer", "usrsctp", "--sizes", "1024", "--runs", "1", "--json")
    more = ("--seconds", "0.5", "--warm-up", "0.3", "--build", "interpreted")
    done = run("link.py", *arguments, *more)
    # Whether limits are kept is not for a machine that runs tests to say.
    assert done.returncode in (0, EXIT_MISSED), done.stderr
    result = told(done.stdout)
    rows = result["rates"]
    names = ["phalanx", "phalanx, datagrams", "asyncio tcp", "usrsctp in C"]
    assert [row["system"] for row in rows] == names
    assert all((row["nodes"], row["size"]) == (2, 1024) and row["mb_per_s"] > 0 for row in rows)
    assert all(row["complete"] and row["gaps"] == 0 and row["msgs_per_s"] > 0 for row in rows)
    limits = {verdict["what"]: verdict["limit"] for verdict in result["verdicts"]}
    assert limits["one to one, 1,024 bytes, phalanx / usrsctp in C"] == 0.8


@pytest.mark.netns
def test_failures_are_measured() -> None:
    """A member that is killed, with both ways of ordering and with both ways of using rails."""
    done = run(
        "failover.py", "--fault", "killed", "--runs", "1", "--build", "interpreted", "--json"
    )
    assert done.returncode in (0, EXIT_MISSED), done.stderr
    rows = told(done.stdout)["failures"]
    names = ["phalanx", "phalanx, agreed order", "phalanx, active rails"]
    assert [row["system"] for row in rows] == names
    assert all(row["lost"] == 0 and row["gap_ms"] < 1000 and row["view_ms"] for row in rows)


@pytest.fixture
def running() -> Iterator[subprocess.Popen[str]]:
    """A program in the middle of its run."""
    arguments = ("--build", "interpreted", "--nodes", "2", "--rounds", "1000000")
    argv = [sys.executable, str(BENCH / "barrier.py"), *arguments]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stderr is not None, "asked for a pipe"
        try:
            for line in program.stderr:
                if "run 1 of" in line:
                    break
            yield program
        finally:
            program.terminate()  # not killed: it has hosts and rails to remove


def members_of(pid: int) -> list[int]:
    """The members that the program has started, once both are there."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        listing = subprocess.run(
            ["ps", "--ppid", str(pid), "-o", "pid=,args="],
            capture_output=True,
            text=True,
            check=False,  # there may be none yet
        )
        lines = [line.split(maxsplit=1) for line in listing.stdout.splitlines()]
        found = [int(number) for number, command in lines if "phalanx_barrier" in command]
        if len(found) == 2:
            return found
    raise AssertionError("the members were not started")


@pytest.mark.netns
def test_ctrl_c_leaves_nothing_behind(running: subprocess.Popen[str]) -> None:
    """Namespaces that nobody knows of would stay until the machine is started again."""
    members = members_of(running.pid)
    assert any(name.startswith(f"{running.pid}-") for name in lab_names())
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=DEADLINE_S)
    assert running.returncode == EXIT_INTERRUPTED
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert not any(name.startswith(f"{running.pid}-") for name in lab_names())
    assert not any(Path(f"/proc/{member}").exists() for member in members)


@pytest.mark.netns
def test_a_member_that_dies_ends_the_program(running: subprocess.Popen[str]) -> None:
    """At once and with its name: a barrier without it would wait until its deadline."""
    os.kill(members_of(running.pid)[0], signal.SIGKILL)
    output, errors = running.communicate(timeout=DEADLINE_S)
    assert running.returncode == 1
    assert output == ""
    assert "alpha ended unexpectedly" in errors
    assert not any(name.startswith(f"{running.pid}-") for name in lab_names())


def test_no_run_finds_the_records_of_another(tmp_path: Path) -> None:
    """A node that remembers another cluster takes those without records for broken ones."""
    stage = Stage(lab=Lab(2, ("a", "b"), "configured"), folder=tmp_path)
    task = Task(kind="barrier", nodes=2)
    systems = [Phalanx(build=Build.INTERPRETED) for _ in range(2)]
    files = [system.commands(stage, task)[0][4] for system in systems for _ in range(2)]
    folders = {load(Path(file)).state_dir for file in files}
    assert len(folders) == len(files) == 4


def test_a_daemon_knows_every_node_on_every_rail(tmp_path: Path) -> None:
    """With one rail less corosync would be measured with less redundancy than phalanx."""
    stage = Stage(lab=Lab(3, ("a", "b"), "configured"), folder=tmp_path)
    text = configuration(stage, "bravo", 3)
    for node in (1, 2, 3):
        assert f"nodeid: {node}\n" in text
        assert f"ring0_addr: 10.71.0.{node}\n" in text
        assert f"ring1_addr: 10.72.0.{node}\n" in text
    assert "crypto_cipher: none\n" in text
