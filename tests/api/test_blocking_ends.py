"""The blocking faces at the ends of loops, programs and forks, and attached to a running loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from phalanx.barrier.blocking import Barriers
from phalanx.transport import (
    ClosedError,
    NoQuorum,
    UsageError,
    ViewInstalled,
)
from phalanx.transport.blocking import Cluster, attach
from phalanx.transport.testing.loopback import cluster_file

from .threads import (
    GUARD_S,
    asyncio_program,
    in_thread,
    in_threads,
    messages,
    until,
)

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


# ------------------------------------------------------------------------- loops that end


def test_when_the_loop_dies_every_call_says_why(three: dict[int, Cluster]) -> None:
    """Whoever waits and whoever calls later; the others see the node leave."""
    dying, other = three[1], three[2]

    async def die() -> None:
        raise SystemExit("the loop ends here")

    with in_thread(lambda: Barriers(dying).wait("never", timeout=GUARD_S)) as waiting:
        until(lambda: bool(Barriers(other).open()))
        calls: list[Callable[[], object]] = [
            lambda: dying.call(die),
            lambda: waiting.result(GUARD_S),
            lambda: dying.multicast(b"x"),
            lambda: dying.view,
        ]
        for call in calls:
            with pytest.raises(ClosedError, match="has died") as closed:
                call()
            assert isinstance(closed.value.__cause__, SystemExit)
    dying.leave()
    for event in other:
        if isinstance(event, ViewInstalled) and 1 in event.left:
            break


def test_a_program_may_end_without_leaving(tmp_path: Path) -> None:
    """It neither hangs nor complains, with threads at a barrier and in the stream."""
    program = f"""
        import threading
        from dataclasses import replace
        from phalanx.barrier.blocking import Barriers
        from phalanx.transport.blocking import Cluster
        from phalanx.transport.testing.memory import MemoryNetwork, memory_config

        config = replace(memory_config(1), state_dir={str(tmp_path)!r})
        cluster = Cluster.join(config, node=1, drivers=MemoryNetwork())
        barriers = Barriers(cluster)
        arrival = barriers.arrive("never", parties=2)
        for call in (arrival.wait, lambda: list(cluster)):
            threading.Thread(target=call, daemon=True).start()
        cluster.multicast(b"x").held(5)
        print(cluster.primary)
    """
    ended = run_python(program)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "True\n"


def test_a_cluster_outlives_the_main_thread() -> None:
    """Threads that go on when the main one has ended see the next view as well."""
    program = """
        import asyncio
        import threading
        from phalanx.transport import ViewInstalled
        from phalanx.transport.testing.memory import memory_cluster

        async def work():
            async with memory_cluster(3) as memory:
                threading.main_thread().join()
                await memory.clusters[3].leave()
                async for event in memory.clusters[1]:
                    if isinstance(event, ViewInstalled) and event.left:
                        print(event.view.members)
                        break

        threading.Thread(target=lambda: asyncio.run(work())).start()
    """
    ended = run_python(program)
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "(1, 2)\n")


ALONE = """
    import atexit
    import os
    import sys
    from dataclasses import replace
    from phalanx.transport import UsageError
    from phalanx.transport.bridge import Bridge
    from phalanx.transport.blocking import Cluster
    from phalanx.transport.testing.memory import MemoryNetwork, memory_config

    def join():
        config = replace(memory_config(1), state_dir=sys.argv[1])
        return Cluster.join(config, node=1, drivers=MemoryNetwork())
"""


def test_at_the_end_of_a_program_the_loop_stands_still(tmp_path: Path) -> None:
    """Handlers of the program come first, and may leave; later ones find nobody."""
    program = """
    atexit.unregister(phalanx.transport.bridge._park_all)
    atexit.register(lambda: print(ask("after")))
    atexit.register(phalanx.transport.bridge._park_all)
    atexit.register(lambda: print(ask("before")))

    async def answer(words):
        return words

    def ask(words):
        try:
            return Bridge(cluster.inner.home).call(lambda: answer(words), 0.05)
        except TimeoutError:
            return "nobody"

    cluster = join()
    """
    ended = run_python("    import phalanx.transport.bridge\n" + ALONE + program, str(tmp_path))
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "before\nnobody\n")


def test_a_forked_child_ends_without_touching_its_parents_node(tmp_path: Path) -> None:
    """It is refused, and its exit stops nothing."""
    program = """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
    cluster = join()
    child = os.fork()
    if not child:
        try:
            cluster.multicast(b"x")
        except UsageError as refusal:
            print(refusal)
        sys.exit(0)
    assert os.waitpid(child, 0) == (child, 0)
    cluster.multicast(b"x").held(5)
    print("still here")
    cluster.leave()
    """
    ended = run_python(ALONE + program, str(tmp_path))
    assert (ended.returncode, ended.stderr) == (0, "")
    refusal, still = ended.stdout.splitlines()
    assert "fork" in refusal
    assert still == "still here"


def run_python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own; one that hangs fails."""
    return subprocess.run(
        [sys.executable, "-W", "default", "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=GUARD_S,
        check=False,
    )


def test_a_program_that_ends_without_leaving_says_no_farewell(
    tmp_path: Path, require: Callable[..., None]
) -> None:
    """To the others it is a process that died, found at once by its lifeline."""
    require("usrsctp")
    file = cluster_file(tmp_path / "cluster.toml", ["alpha", "beta"])
    with file.open("a") as more:
        more.write('[quorum]\ntie_breaker = "alpha"\n')
    program = f"""
        from phalanx.transport.blocking import Cluster
        cluster = Cluster.join({str(file)!r}, node="beta")
        cluster.multicast(b"last words").held(5)
    """

    def join() -> Cluster:
        return Cluster.join(file, node="alpha", timeout=GUARD_S)

    with in_thread(join) as joining:
        ended = run_python(program)
        assert (ended.returncode, ended.stderr) == (0, "")
        with joining.result(GUARD_S) as alpha:
            (said,) = messages(alpha, 1)
            assert said.payload == b"last words"
            for event in alpha:
                if isinstance(event, ViewInstalled) and event.left:
                    assert event.left == {2: "its process died"}
                    break


# ------------------------------------------------------------------------------- attaching


def test_worker_threads_of_an_asyncio_program_use_its_cluster() -> None:
    """They publish at once, and what each has sent arrives in its order."""
    with asyncio_program() as (memory, _):
        face = attach(memory.clusters[1])

        def work(worker: int) -> None:
            for number in range(50):
                face.multicast(b"%d" % number, channel=str(worker))

        with (
            attach(memory.clusters[2]) as reader,
            in_thread(lambda: messages(reader, 200)) as reading,
        ):
            in_threads(*(lambda n=n: work(n) for n in range(4)))
            got = reading.result(GUARD_S)
        for worker in range(4):
            numbers = [int(message.payload) for message in got if message.channel == str(worker)]
            assert numbers == list(range(50))
        assert reader.view.members == (1, 2, 3)  # leaving the context has left nothing


def test_an_attached_face_is_refused_in_the_loops_own_thread() -> None:
    """There one awaits the asyncio cluster."""
    with asyncio_program() as (memory, loop):
        face = attach(memory.clusters[1])

        async def inside() -> None:
            with pytest.raises(UsageError, match="own event loop"):
                face.multicast(b"x")
            with pytest.raises(UsageError, match="own event loop"):
                Barriers(face)

        asyncio.run_coroutine_threadsafe(inside(), loop).result(GUARD_S)
        Barriers(face).wait("me", parties=1, timeout=5)


def test_an_attached_face_ends_with_the_programs_loop() -> None:
    """Those who wait are not forgotten, whatever the loop did not get to."""
    with asyncio_program() as (memory, loop):
        face = attach(memory.clusters[1])
        barriers = Barriers(face)
        with in_thread(lambda: barriers.wait("never", timeout=GUARD_S)) as waiting:
            until(lambda: bool(Barriers(attach(memory.clusters[2])).open()))
            asyncio.run_coroutine_threadsafe(stop_program(), loop)
            with pytest.raises((ClosedError, NoQuorum)):
                waiting.result(GUARD_S)
        until(loop.is_closed)
        with pytest.raises(ClosedError):
            face.multicast(b"x")


async def stop_program() -> None:
    """As Ctrl-C does."""
    for task in asyncio.all_tasks():
        task.cancel()


def test_leaving_by_an_attached_face_leaves_the_cluster() -> None:
    """For everybody who uses it; what was not read is there still."""
    with asyncio_program() as (memory, _):
        face = attach(memory.clusters[1])
        face.leave()
        with pytest.raises(ClosedError):
            face.multicast(b"x")
        assert isinstance(face.next(timeout=5), ViewInstalled)
        assert list(face) == []
