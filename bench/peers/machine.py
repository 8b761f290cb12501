"""What a result was measured on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from phalanx.transport.testing.lab_netns import find_tool

_VERSION_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Figures of two results can be compared only if these are the same."""

    cores: int
    """That this program may use."""
    processor: str
    kernel: str
    python: str
    load_before: float
    """Of the last minute, before anything was started: above some tenths, run it again."""


def this_machine() -> Machine:
    """As it is now."""
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        processor=_processor(),
        kernel=platform.release(),
        python=platform.python_version(),
        load_before=round(os.getloadavg()[0], 2),
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def first_line(*argv: str) -> str:
    """The first line of what a tool says about itself."""
    done = subprocess.run(
        [find_tool(argv[0]) or argv[0], *argv[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_VERSION_S,
        check=False,
    )
    return (done.stdout.splitlines() or [""])[0].strip()


def missing_tools(**packages: str) -> list[str]:
    """For each command that is not here (underscores stand for hyphens), which package has it."""
    return [
        f"the command {name.replace('_', '-')} is missing; install the Debian package {package}"
        for name, package in packages.items()
        if find_tool(name.replace("_", "-")) is None
    ]


def package_version(name: str) -> str:
    """Of an installed distribution."""
    return metadata.version(name)


def compiler() -> str | None:
    """The system's C compiler, or the one that CC names."""
    return shutil.which(os.environ.get("CC", "cc"))
