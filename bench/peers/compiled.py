"""What is measured: this checkout with its hot modules compiled, as for a server."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from enum import StrEnum
from pathlib import Path

from .failure import BenchFailed

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "bench"
PACKAGES = ("transport", "barrier", "_native")
SUFFIXES = (".py", ".c", ".h")
BUILD_S = 1800.0
_TAIL_LINES = 12


class Build(StrEnum):
    """How phalanx is built for a measurement."""

    PGO = "pgo"
    """Compiled, guided by a profile: the fastest."""
    COMPILED = "compiled"
    INTERPRETED = "interpreted"
    """Not at all: the checkout as it runs."""


HELP = "Compiled and guided by a profile, only compiled, or this checkout as it runs."
_ENVIRONMENT = {Build.PGO: "pgo", Build.COMPILED: "1"}
_MINUTES = {Build.PGO: "ten to fifteen", Build.COMPILED: "five"}


def missing() -> list[str]:
    """What a build needs and is not here."""
    if importlib.util.find_spec("mypyc") is None:
        return [
            "mypyc is missing, which compiles what is measured; install the extra 'dev', or "
            "measure this checkout as it runs with --build interpreted"
        ]
    return []


def digest() -> str:
    """Of everything that goes into the build."""
    paths = [ROOT / "setup.py", ROOT / "pyproject.toml"]
    for package in PACKAGES:
        paths += (path for path in (ROOT / package).rglob("*") if path.suffix in SUFFIXES)
    summed = hashlib.sha256(sys.version.encode())
    for path in sorted(paths):
        summed.update(f"{path.relative_to(ROOT)} {path.stat().st_size}\n".encode())
        summed.update(path.read_bytes())
    return summed.hexdigest()[:16]


@functools.cache
def folder(build: Build = Build.PGO) -> Path:
    """A folder for PYTHONPATH with a build of these very sources; made if it is not there.

    Of several programs that ask at once one makes it. Builds of other sources are removed.

    Raises:
        BenchFailed: it cannot be made; the message ends with what the compiler says.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with Path(FOLDER, ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sources = digest()
        made = FOLDER / f"{sources}-{build}"
        if not made.is_dir():
            for old in FOLDER.glob("[!.]*"):
                if not old.name.startswith(sources):
                    shutil.rmtree(old, ignore_errors=True)
            _make(made, build)
        return made


def _make(made: Path, build: Build) -> None:
    minutes = _MINUTES[build]
    print(f"compiling: {minutes} minutes, once for each change of the sources", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=FOLDER) as place:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        offline = ["--no-deps", "--no-index"]
        wheel = ["wheel", "--no-build-isolation", *offline, "-w", place, str(ROOT)]
        how = {"PHALANX_COMPILE": _ENVIRONMENT[build], "PHALANX_NATIVE": "require"}
        _run([*pip, *wheel], how)
        (wheel_file,) = Path(place).glob("*.whl")
        unpacked = Path(place, "unpacked")
        _run([*pip, "install", *offline, "--target", str(unpacked), str(wheel_file)], {})
        unpacked.rename(made)


def _run(argv: list[str], more: dict[str, str]) -> None:
    done = subprocess.run(
        argv,
        env={**os.environ, **more},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-_TAIL_LINES:])
        raise BenchFailed(f"the compiled build cannot be made:\n{tail}")
