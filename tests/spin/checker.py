"""Runs spin on the model: generate, compile, search, and read what it says.

The search is exhaustive: no hashing that could take two states for one, no bound that is reached
in silence. A run that ends early, by its memory or its depth, is an error of its own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

MODEL = Path(__file__).with_name("view_change.pml")
DEPTH_MAX = 10_000
COMPILER = ("cc", "-w", "-O1", "-DSAFETY", "-DNOREDUCE", "-DNOFAIR")
"""Every step touches what all nodes see, so partial order reduction would save nothing."""

_STATES = re.compile(r"^\s*(\d+) states, stored", re.MULTILINE)
_TRANSITIONS = re.compile(r"^\s*(\d+) transitions", re.MULTILINE)
_REACHED = re.compile(r"depth reached (\d+), errors: (\d+)")
_MEMORY = re.compile(r"^\s*([\d.]+)\s+total actual memory usage", re.MULTILINE)
_ERROR = re.compile(r"^pan:\d+: (.*?)(?: \(at depth \d+\))?$", re.MULTILINE)
_UNREACHED = re.compile(r"^\t(?:\S*/)?(\w+\.pml)?:(\d+), state \d+, \"(.*)\"$", re.MULTILINE)
_INCOMPLETE = ("max search depth too small", "out of memory", "Search not completed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one search found."""

    error: str
    """The first violation in spin's words; empty if there is none."""
    states: int
    transitions: int
    depth: int
    memory_mb: float
    unreached: frozenset[str]
    """Source lines of which some statement was never executed, without blanks around them."""
    complete: bool

    def __str__(self) -> str:
        return (
            f"{self.states} states, {self.transitions} transitions, depth {self.depth}, "
            f"{self.memory_mb:.0f} MB: {self.error or 'no violation'}"
        )


def search(folder: Path, *defines: str, seconds_max: float, memory_mb_max: int) -> Report:
    """Search all states of the model with these names, or NAME=VALUE, defined."""
    for tool, package in {"spin": "spin", "cc": "gcc"}.items():
        if shutil.which(tool) is None:
            pytest.fail(f"{tool} is not installed: apt-get install {package} (make bootstrap)")
    folder.mkdir(parents=True, exist_ok=True)
    flags = [f"-D{define}" for define in defines]
    _run(folder, 60, "spin", "-a", "-o3", *flags, str(MODEL))
    _run(folder, 600, *COMPILER, f"-DMEMLIM={memory_mb_max}", "-o", "pan", "pan.c")
    return read(_run(folder, seconds_max, "./pan", f"-m{DEPTH_MAX}"))


def _run(folder: Path, seconds_max: float, *command: str) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=seconds_max, check=False
    )
    output = done.stdout + done.stderr
    # The search says by its words, not by its status, what it found.
    assert done.returncode == 0 or command[0] == "./pan", f"{' '.join(command)}\n{output}"
    assert "Error:" not in output, f"{' '.join(command)}\n{output}"
    return output


def read(output: str) -> Report:
    """Read what the search printed."""
    reached = _REACHED.search(output)
    error = _ERROR.search(output)
    states, transitions = _STATES.search(output), _TRANSITIONS.search(output)
    memory = _MEMORY.search(output)
    said = f"spin said something else:\n{output}"
    assert reached is not None, said
    assert states is not None, said
    assert transitions is not None, said
    assert memory is not None, said
    assert (error is None) == (int(reached[2]) == 0), said
    return Report(
        error=error[1] if error is not None else "",
        states=int(states[1]),
        transitions=int(transitions[1]),
        depth=int(reached[1]),
        memory_mb=float(memory[1]),
        unreached=frozenset(_unreached_lines(output)),
        complete=not any(sign in output for sign in _INCOMPLETE),
    )


def _unreached_lines(output: str) -> set[str]:
    sources = {path.name: path.read_text().splitlines() for path in MODEL.parent.glob("*.pml")}
    found: set[str] = set()
    for file, line, statement in _UNREACHED.findall(output):
        # A process is numbered without its file when it stands in the main one.
        text = sources[file or MODEL.name][int(line) - 1].strip()
        found.add("end of a process" if statement == "-end-" else text)
    return found


def aborts() -> frozenset[str]:
    """The lines of the model that end an attempt without a view."""
    lines = (line.strip() for line in MODEL.read_text().splitlines())
    return frozenset(line for line in lines if "/* abort: " in line)
