"""What is wrong on the command line, or in a file, is said in one line and with status 2."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

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
