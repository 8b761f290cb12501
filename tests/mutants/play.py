"""Plays plans on a mutant: a copy of the sources with a few passages changed.

As a program it is what a process runs that has such a copy on its path: it reads seeds, and
prints the first that breaks a guarantee.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

import msgspec

from .mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("transport", "barrier")
SECONDS_MAX = 1800.0
_PROGRAM = """
import json, sys
from phalanx.barrier.testing import plan, verdict
asked = json.load(sys.stdin)
tried = 0
for seed in asked["seeds"]:
    tried += 1
    found = verdict.judge(plan.draw_plan(seed, asked["size"]))
    if not found.held:
        print(json.dumps({"seed": seed, "tried": tried, "kind": found.kind}))
        break
else:
    print(json.dumps({"seed": None, "tried": tried, "kind": ""}))
"""

_WITNESSES = """
import json, signal, sys
from phalanx.barrier.testing import plan
from phalanx.barrier.testing.run import Run
from phalanx.transport.testing.state_checkers import STATE
CPU_SECONDS_MAX = 10  # Where nobody stops a mutant, it may go round in circles.

def give_up(*_):
    raise TimeoutError

signal.signal(signal.SIGVTALRM, give_up)
asked = json.load(sys.stdin)
spoke = {}
for seed in asked["seeds"]:
    run = Run(plan.draw_plan(seed, asked["size"]), refereed=False)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS_MAX)
    try:
        run.play()
    except AssertionError as broken:
        spoke.setdefault(str(broken).split(":", 1)[0], seed)
    except Exception:
        pass  # A mutant may raise anything: what its applications saw until then is judged.
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    for judge in (*run.judges(), *(STATE if run.quiet else ())):
        if any(True for _ in judge(run.simulation.lives)):
            spoke.setdefault(judge.__name__, seed)
print(json.dumps(spoke))
"""


class Catch(msgspec.Struct, frozen=True):
    """What became of playing seeds until one broke."""

    seed: int | None
    """The first that broke a guarantee; None if none did."""
    tried: int
    kind: str
    """Which guarantee."""


class Stale(Exception):
    """A mutant's passage does not stand in the sources exactly once."""


def mutated(mutant: Mutant) -> dict[str, str]:
    """The texts of the changed files, by path.

    Raises:
        Stale: the sources have changed; the mutant has to follow.
    """
    texts: dict[str, str] = {}
    for edit in mutant.edits:
        text = texts.get(edit.path) or (ROOT / edit.path).read_text(encoding="utf-8")
        if text.count(edit.old) != 1:
            raise Stale(f"{mutant.name}: {edit.path} holds {text.count(edit.old)} of {edit.old!r}")
        texts[edit.path] = text.replace(edit.old, edit.new)
    return texts


@contextmanager
def copy_of_sources(mutant: Mutant | None) -> Generator[Path]:
    """A folder to put on the path: the packages, changed if there is a mutant."""
    texts = mutated(mutant) if mutant is not None else {}
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        package = Path(name) / "phalanx"
        package.mkdir()
        (package / "_native").symlink_to(ROOT / "_native")
        for top in PACKAGES:
            for source in (ROOT / top).rglob("*.py"):
                path = str(source.relative_to(ROOT))
                target = package / path
                target.parent.mkdir(parents=True, exist_ok=True)
                if path in texts:
                    target.write_text(texts[path], encoding="utf-8")
                else:
                    target.symlink_to(source)
        (package / "__init__.py").write_text("", encoding="utf-8")
        yield Path(name)


def play(mutant: Mutant | None, seeds: Iterable[int], size: int | None = None) -> Catch:
    """Play seeds on a mutant (or on the sources as they are) until one breaks a guarantee."""
    return msgspec.json.decode(_run(_PROGRAM, mutant, seeds, size), type=Catch)


def witnesses(
    mutant: Mutant | None, seeds: Iterable[int], size: int | None = None
) -> dict[str, int]:
    """Which checkers speak when no referee stops the mutant, each with the first such seed."""
    return msgspec.json.decode(_run(_WITNESSES, mutant, seeds, size), type=dict[str, int])


def refuted(mutant: Mutant | None, judges: Iterable[str]) -> bool:
    """Whether one of these tests fails on a mutant (or on the sources as they are)."""
    with copy_of_sources(mutant) as folder:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-xq", "-p", "no:cacheprovider"]
            + [f"tests/{judge}" for judge in judges],
            env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    if done.returncode not in (0, 1):
        raise AssertionError(done.stdout.decode()[-4000:] + done.stderr.decode()[-4000:])
    return done.returncode == 1


def _run(program: str, mutant: Mutant | None, seeds: Iterable[int], size: int | None) -> bytes:
    asked = msgspec.json.encode({"seeds": list(seeds), "size": size})
    with copy_of_sources(mutant) as folder:
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=asked,
            env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=folder,
            capture_output=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    if done.returncode:
        raise AssertionError(done.stderr.decode()[-4000:])
    return done.stdout
