"""The face of cman when something goes wrong: every party gets the same code."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from phalanx.barrier import core
from phalanx.barrier.cman import Attribute, CmanBarriers, Flag
from phalanx.transport import UsageError, ViewInstalled
from phalanx.transport.testing.memory import MemoryCluster

from .cman_scenes import register_all, scene, seen, told_to, wait_all


@pytest.mark.parametrize("nodes", [0, 3])
def test_a_time_out_is_that_of_every_party(nodes: int) -> None:
    """cman's was local, and the others waited for somebody who had gone."""

    async def body(_: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        one, two, three = cmans
        await register_all(cmans, "b", nodes=nodes)
        assert await one.change("b", Attribute.TIMEOUT, 1) == 0
        assert await wait_all([one, two], "b") == [-errno.ETIMEDOUT] * 2
        assert await wait_all([one, two], "b") == [-errno.ETIMEDOUT] * 2
        assert await three.change("b", Attribute.TIMEOUT, 1) == 0
        assert await three.wait("b") == -errno.ETIMEDOUT

    scene(body)


async def dies(memory: MemoryCluster, node: int) -> None:
    """A node vanishes, and the others go on."""
    for rail in "ab":
        memory.network.cut(node, rail)
    async for event in memory.clusters[1]:
        if isinstance(event, ViewInstalled) and node in event.left:
            break
    await memory.clusters[node].leave(timeout=0)  # which nobody hears


async def leaves(memory: MemoryCluster, node: int) -> None:
    """A node leaves in good order."""
    await memory.clusters[node].leave()


@pytest.mark.parametrize("goes", [dies, leaves])
@pytest.mark.parametrize("arrived", [True, False])
def test_with_a_count_every_party_hears_of_a_death(
    goes: Callable[[MemoryCluster, int], Coroutine[Any, Any, None]], arrived: bool
) -> None:
    """-ESRCH, whether or not the dead node had arrived; later the rest may meet anew."""

    async def body(memory: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        one, two, three = cmans
        await register_all(cmans, "b", Flag.MULTISTEP, nodes=3)
        waiting = asyncio.gather(one.wait("b"), two.wait("b"))
        await seen(memory, at=1, arrivals=2)
        if arrived:
            # Not a third arrival, which would release it: one of four.
            await register_all(cmans, "four", nodes=4)
            waiting = asyncio.gather(one.wait("four"), two.wait("four"))
            assert await three.change("four", Attribute.ENABLED, 1) == 0
            await seen(memory, at=1, arrivals=3, name="cman:four")
        await goes(memory, 3)
        assert await waiting == [-errno.ESRCH] * 2
        assert await one.delete("b") == await two.delete("b") == 0
        await register_all([one, two], "b", nodes=2)
        assert await wait_all([one, two], "b") == [0, 0]

    scene(body)


@pytest.mark.parametrize("goes", [dies, leaves])
def test_with_all_members_those_who_are_left_meet(
    goes: Callable[[MemoryCluster, int], Coroutine[Any, Any, None]],
) -> None:
    """cman never looked at a dynamic barrier again, so that it hung."""

    async def body(memory: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        one, two, _ = cmans
        told: list[tuple[int, str, int]] = []
        await register_all(cmans, "b")
        assert await one.change("b", Attribute.CALLBACK, told_to(told, 1)) == 0
        waiting = asyncio.gather(one.wait("b"), two.wait("b"))
        await seen(memory, at=1, arrivals=2)
        await goes(memory, 3)
        assert await waiting == [0, 0]
        await asyncio.sleep(0)  # a callback is called in the pass of the loop after the waiters'
        assert told == [(1, "b", 0)]

    scene(body)


@pytest.mark.parametrize("counts", [(2, 2, 3), (3, 3, 0), (0, 0, 2)])
def test_every_party_hears_of_a_wrong_count(counts: tuple[int, int, int]) -> None:
    """The one who is turned away, and those who would wait for it in vain."""

    async def body(memory: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        one, _, three = cmans
        assert await one.register("b", Flag.MULTISTEP, counts[0]) == 0
        assert await three.register("b", 0, counts[2]) == 0
        first = asyncio.create_task(one.wait("b"))
        await seen(memory, at=3, arrivals=1)
        assert await three.wait("b") == -errno.EINVAL
        assert await first == -errno.EINVAL
        # What was marked as broken is not what comes after it.
        assert await three.delete("b") == 0
        await register_all(cmans[1:], "b", 0, counts[0])
        late = cmans if counts[0] != 2 else cmans[:2]
        assert await wait_all(late, "b") == [0] * len(late)

    scene(body)


def test_the_order_decides_between_a_wrong_count_and_the_last_arrival() -> None:
    """Whichever comes first, the parties of one count see one outcome."""

    async def body(memory: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        one, two, three = cmans
        for number in range(20):
            name = f"b{number}"
            await register_all([one, two], name, 0, 2)
            assert await three.register(name, 0, 3) == 0
            assert await three.change(name, Attribute.TIMEOUT, 1) == 0
            first = asyncio.create_task(one.wait(name))
            await seen(memory, at=3, arrivals=1, name=f"cman:{name}")
            late = asyncio.create_task(three.wait(name))
            for _ in range(number % 5):
                # So many passes of the loop later: before the refusal, in it, and behind it.
                await asyncio.sleep(0)
            second = asyncio.create_task(two.wait(name))
            if await first == 0:
                assert await second == 0
                continue
            # Broken before the second came, or by then: it is told so, or is alone.
            assert await first == -errno.EINVAL
            assert await late == -errno.EINVAL
            assert await two.delete(name) == 0
            assert await second in (-errno.EINVAL, -errno.ENOENT)

    scene(body)


def test_deleting_ends_it_for_everybody() -> None:
    """And the name is free for another use, which nothing of before disturbs."""

    async def body(memory: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        one, two, three = cmans
        await register_all(cmans, "b", Flag.MULTISTEP)
        waiting = [asyncio.create_task(cman.wait("b")) for cman in (one, two)]
        await seen(memory, at=3, arrivals=2)
        assert await one.delete("b") == 0
        assert [await task for task in waiting] == [-errno.ENOENT, -errno.EINVAL]
        await register_all([one], "b", Flag.MULTISTEP)
        assert await wait_all([one, two, three], "b") == [0, 0, 0]

    scene(body)


@pytest.mark.parametrize("flags", [0, Flag.AUTODELETE])
def test_cancelling_gives_the_kernels_codes(flags: int) -> None:
    """-ENOTCONN to who waits, -ECONNRESET to the callback."""

    async def body(memory: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        one, two = cmans
        told: list[tuple[int, str, int]] = []
        assert await one.cancel("b") == -errno.ENOENT
        await register_all(cmans, "b", flags)
        assert await one.change("b", Attribute.CALLBACK, told_to(told, 1)) == 0
        waiting = [asyncio.create_task(cman.wait("b")) for cman in (one,)]
        await seen(memory, at=2, arrivals=1)
        assert await one.cancel("b") == 0
        assert [await task for task in waiting] == [-errno.ENOTCONN]
        await asyncio.sleep(0)  # as above: the callback comes in the next pass
        assert told == [(1, "b", -errno.ECONNRESET)]
        again = -errno.ENOENT if flags else -errno.ENOTCONN
        assert await one.wait("b") == again
        del two

    scene(body, nodes=2)


def test_who_is_no_member_gets_enotconn() -> None:
    """Whoever waits when the cluster is left, and every later call that needs it."""

    async def body(memory: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        one = cmans[0]
        await register_all(cmans, "b")
        waiting = asyncio.create_task(one.wait("b"))
        await seen(memory, at=2, arrivals=1)
        await memory.clusters[1].leave()
        assert await waiting == -errno.ENOTCONN
        assert await one.register("c") == -errno.ENOTCONN
        assert await one.wait("b") == -errno.ENOTCONN
        assert await one.delete("b") == 0

    scene(body, nodes=2)


def test_a_minority_gets_enotconn() -> None:
    """It may not act, and does not know what the others decide."""

    async def body(memory: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        three = cmans[2]
        await register_all(cmans, "b")
        waiting = asyncio.create_task(three.wait("b"))
        await seen(memory, at=1, arrivals=1)
        for rail in "ab":
            memory.network.cut(3, rail)
        assert await waiting == -errno.ENOTCONN
        assert await three.register("c") == -errno.ENOTCONN
        await memory.clusters[3].leave(timeout=0)  # which nobody hears

    scene(body)


def test_too_many_barriers_are_enomem(monkeypatch: pytest.MonkeyPatch) -> None:
    """cman had no more memory; we have a limit."""

    async def body(_: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        one = cmans[0]
        for name in ("a", "b", "c"):
            assert await one.register(name, 0, 2) == 0
        monkeypatch.setattr(core, "WAITS_MAX", 1)
        assert await one.change("a", Attribute.ENABLED, 1) == 0
        assert await one.change("b", Attribute.ENABLED, 1) == -errno.ENOMEM
        assert await one.wait("c") == -errno.ENOMEM
        assert await one.delete("a") == 0

    scene(body, nodes=1)


def test_a_call_from_elsewhere_is_the_callers_mistake() -> None:
    """No code of cman's says that, so it is raised."""

    async def body(_: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        refused: list[str] = []

        async def call() -> None:
            for made in (cmans[0].register("b"), cmans[0].wait("b"), cmans[0].delete("b")):
                with pytest.raises(UsageError) as why:
                    await made
                refused.append(str(why.value))

        thread = threading.Thread(target=lambda: asyncio.run(call()))
        thread.start()
        await asyncio.to_thread(thread.join)
        assert len(refused) == 3

    scene(body, nodes=1)
