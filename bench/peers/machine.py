"""What a result was measured on."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from phalanx.transport.testing.lab_netns import find_tool

from .failure import BenchFailed

Language = Literal["c", "c++"]
_VERSION_S = 10.0
_COMPILE_S = 60.0
_COMPILERS: Mapping[Language, tuple[str, str]] = {"c": ("CC", "cc"), "c++": ("CXX", "c++")}
_STANDARDS: Mapping[Language, str] = {"c": "c11", "c++": "c++20"}


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


def busy_s() -> float:
    """How long all processors together have been busy since the start, whoever it was for."""
    user, nice, system, _idle, _waiting, interrupts, soft = _ticks()[:7]
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")


def _ticks() -> list[int]:
    with Path("/proc/stat").open(encoding="ascii") as lines:
        return [int(word) for word in lines.readline().split()[1:]]


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


def missing_package(name: str, *, module: str = "", needs: str = "") -> list[str]:
    """Of a Python package that is not here: how to have it.

    `module` is what it is imported as, if not by its name; `needs` a Debian package.
    """
    if importlib.util.find_spec(module or name) is not None:
        return []
    before = f"install the Debian package {needs}, and then it" if needs else "install it"
    return [
        f"the Python package {name} is missing; {before} from the package index: "
        f"{sys.executable} -m pip install {name}"
    ]


def package_version(name: str) -> str:
    """Of an installed distribution."""
    return metadata.version(name)


def compiler(language: Language = "c") -> str | None:
    """The system's compiler, or the one that CC or CXX names."""
    variable, default = _COMPILERS[language]
    return shutil.which(os.environ.get(variable, default))


def compile_client(
    what: str, *arguments: str, library: str, language: Language = "c", text: str = ""
) -> None:
    """Compile `text`, or what the arguments name, and link it against a library.

    Raises:
        BenchFailed: it cannot be compiled.
    """
    found = compiler(language)
    assert found is not None, "asked for before"
    flags = [f"-std={_STANDARDS[language]}", "-O2", "-Wall", "-Wextra"]
    done = subprocess.run(
        [found, *flags, *arguments, f"-l{library}"],
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_COMPILE_S,
        check=False,
    )
    if done.returncode != 0:
        raise BenchFailed(f"{what} cannot be compiled:\n{done.stdout}")
