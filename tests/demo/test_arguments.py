"""What is wrong on the command line, or in a file, is said in one line and with status 2."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path

import pytest

from phalanx.barrier import demo
from phalanx.barrier.cli_lab import partition_words
from phalanx.transport import DriverUnavailable
from phalanx.transport.drivers.sctp_socket import SctpSocket
from phalanx.transport.testing.lab import lab_names
from phalanx.transport.testing.lab_state import new_state

from .conftest import MakeConfig, RunCommand


def test_version_is_the_installed_one(run_command: RunCommand) -> None:
    """A report of a defect begins with the version."""
    done = run_command(["--version"])
    version = importlib.metadata.version("phalanx")
    assert (done.returncode, done.stdout) == (0, f"phalanx {version}\n")


def test_lab_is_a_part_of_the_command(run_command: RunCommand) -> None:
    """The hosts and rails of the demo are there for the user, too."""
    done = run_command(["lab", "--help"])
    assert done.returncode == 0
    for command in ("up", "down", "shell", "cut", "heal"):
        assert f" {command} " in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--nodes", "1"],
        ["demo", "--rails", "9"],
        ["demo", "--rails", "0"],
        ["demo", "--seconds", "3.9"],
        ["demo", "--rate", "0"],
        ["demo", "--driver", "udp"],
        ["demo", "surplus"],
        ["demo", "--output", "no-such-folder/demo.png"],
        ["demo", "--output", "demo.xyz"],
        ["demo", "--output", "/proc/demo.png"],
        ["lab", "up", "--name", "never", "--config", "/no-such-folder/lab.toml"],
        ["lab", "run", "alpha"],
        ["node", "no-such-file.toml", "alpha"],
        ["node"],
        ["nonsense"],
    ],
)
def test_impossible_arguments_are_refused(run_command: RunCommand, arguments: list[str]) -> None:
    """Nothing is built for a command that cannot work."""
    done = run_command(arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_bad_cluster_file_is_one_line_with_status_2(
    run_command: RunCommand, tmp_path: Path
) -> None:
    """The file, the key and the fix are all that the user needs; a traceback hides them."""
    path = tmp_path / "cluster.toml"
    path.write_text('[cluster]\nname = "x"\nnonsense = 1\n')
    done = run_command(["node", path, "alpha"])
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert str(path) in done.stderr
    assert "nonsense" in done.stderr


def test_an_unknown_node_is_one_line_with_status_2(
    run_command: RunCommand, make_config: MakeConfig
) -> None:
    """A mistyped name is answered with the names that there are."""
    done = run_command(["node", make_config(2), "alfa"])
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "alpha (1), bravo (2)" in done.stderr
    assert "cluster.toml: no node 'alfa' is configured" in done.stderr


def test_the_help_of_lab_run_shows_where_the_command_begins(run_command: RunCommand) -> None:
    """Without the two dashes the options of the other command would be taken for ours."""
    done = run_command(["lab", "run", "--help"])
    assert "-- COMMAND..." in done.stdout
    assert "ping" not in done.stdout, "it is not installed everywhere"


def test_hosts_in_no_group_are_shown_as_the_group_that_they_form() -> None:
    """`lab partition alpha` parts alpha from two hosts that do hear each other."""
    state = new_state(4, ("a",), "x")
    state.groups = [["alpha"]]
    assert partition_words(state) == "alpha | bravo, charlie, delta"
    state.groups = [["alpha", "delta"], ["bravo", "charlie"]]
    assert partition_words(state) == "alpha, delta | bravo, charlie"


@pytest.mark.netns
def test_a_lab_whose_file_cannot_be_written_does_not_stay(run_command: RunCommand) -> None:
    """Who gets an error does not think of taking something down."""
    name = f"unwritten-{os.getpid()}"
    done = run_command(["lab", "up", "--name", name, "--hosts", "1", "--config", "/proc/x.toml"])
    assert done.returncode == 1
    assert done.stderr.startswith("phalanx lab: /proc/x.toml cannot be written: ")
    assert len(done.stderr.splitlines()) == 1
    assert name not in lab_names()


@pytest.mark.parametrize("driver", ["kernel_sctp", "user_sctp"])
def test_a_driver_that_is_not_there_is_found_out_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], driver: str
) -> None:
    """Hosts that are built first and a process that "ended unexpectedly" explain nothing."""

    def missing(_family: int) -> SctpSocket:
        raise DriverUnavailable("this kernel has no SCTP")

    def built() -> str:
        raise AssertionError("nothing may be built")

    monkeypatch.setattr(SctpSocket, "open", missing)
    monkeypatch.setitem(sys.modules, "phalanx._native._usrsctp", None)
    monkeypatch.setattr(demo, "capability", built)
    assert demo.run(demo.Options(driver=driver, output=None)) == demo.EXIT_USAGE
    [line] = capsys.readouterr().err.splitlines()
    reasons = {
        "kernel_sctp": "phalanx demo: this kernel has no SCTP",
        "user_sctp": "phalanx demo: the extension for user_sctp is not built",
    }
    assert line.startswith(reasons[driver])
