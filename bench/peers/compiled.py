"""The build that is measured: this checkout with its hot modules compiled, as for a server."""

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
from pathlib import Path

from .crew import BenchFailed

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "bench"
PACKAGES = ("transport", "barrier", "_native")
SUFFIXES = (".py", ".c", ".h")
BUILD_S = 900.0
_TAIL_LINES = 12


def missing() -> list[str]:
    """What a build needs and is not here."""
    if importlib.util.find_spec("mypyc") is None:
        return [
            "mypyc is missing, which compiles what is measured; install the extra 'dev', or "
            "measure this checkout as it runs with --interpreted"
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
def build() -> Path:
    """A folder for PYTHONPATH with the build of these very sources; made if it is not there.

    Of several programs that ask at once one makes it. Builds of other sources are removed.

    Raises:
        BenchFailed: it cannot be made; the message ends with what the compiler says.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with Path(FOLDER, ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = FOLDER / digest()
        if not folder.is_dir():
            _make(folder)
        return folder


def _make(folder: Path) -> None:
    print("compiling: two minutes, once for each change of the sources", file=sys.stderr)
    for old in FOLDER.glob("[!.]*"):
        shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as place:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        offline = ["--no-deps", "--no-index"]
        wheel = ["wheel", "--no-build-isolation", *offline, "-w", place, str(ROOT)]
        _run([*pip, *wheel], {"PHALANX_COMPILE": "1", "PHALANX_NATIVE": "require"})
        (made,) = Path(place).glob("*.whl")
        unpacked = Path(place, "unpacked")
        _run([*pip, "install", *offline, "--target", str(unpacked), str(made)], {})
        unpacked.rename(folder)


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
