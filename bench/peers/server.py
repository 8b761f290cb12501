"""A server on the first host, which members on all hosts reach by the address of its first rail."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from phalanx.barrier.demo_signals import finished

from .crew import environment
from .failure import BenchFailed
from .stage import Stage

_TRY_EVERY_S = 0.05
_END_S = 5.0
_TAIL_LINES = 8


def address(stage: Stage) -> str:
    """Where the members find it."""
    return stage.lab.address(stage.lab.rails[0], stage.lab.hosts[0])


@contextmanager
def serving(
    stage: Stage, name: str, argv: Sequence[str], answers: Callable[[], str], within_s: float
) -> Generator[str, None, None]:
    """It runs, and answers, until the end of the context; gives what it answered.

    Args:
        name: in words, and of its log.
        argv: its command.
        answers: called inside its host again and again; empty as long as it does not serve.
        within_s: so long that may take.

    Raises:
        BenchFailed: it has ended, or does not answer.
    """
    host, log = stage.lab.hosts[0], Path(stage.folder / f"{name}.log")
    with log.open("wb") as output, finished():
        child = stage.lab.spawn(
            host,
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(),
            cwd=stage.folder,
        )
    try:
        deadline = time.monotonic() + within_s
        while not (said := stage.lab.within(host, answers)):
            if child.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
                raise BenchFailed(f"{name} does not answer:\n{tail}")
            time.sleep(_TRY_EVERY_S)  # a server tells nobody when it begins to serve
        yield said
    finally:
        child.terminate()
        try:
            child.wait(_END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
