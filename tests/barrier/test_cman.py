"""cman's calls and return codes, over clusters in memory."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from phalanx.barrier import Barriers, core
from phalanx.barrier.cman import Attribute, CmanBarriers, Flag
from phalanx.transport import UsageError, ViewInstalled
from phalanx.transport.testing.memory import MemoryCluster, memory_cluster

GUARD_S = 20.0
Body = Callable[[MemoryCluster, list[CmanBarriers]], Coroutine[Any, Any, None]]


def scene(body: Body, nodes: int = 3) -> None:
    """Run a scene over a fresh cluster, with a guard against hanging."""

    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S), memory_cluster(nodes) as memory:
            await body(memory, [CmanBarriers(cluster) for cluster in memory.clusters.values()])

    asyncio.run(guarded())


async def register_all(
    cmans: list[CmanBarriers], name: str, flags: int = 0, nodes: int = 0
) -> None:
    """At every node alike."""
    for cman in cmans:
        assert await cman.register(name, flags, nodes) == 0


async def wait_all(cmans: list[CmanBarriers], name: str) -> list[int]:
    """At once."""
    return await asyncio.gather(*(cman.wait(name) for cman in cmans))


async def seen(memory: MemoryCluster, at: int, arrivals: int, name: str = "cman:b") -> None:
    """Return when so many arrivals are in the order, as that node sees it."""
    barriers = Barriers(memory.clusters[at])
    await until(
        memory,
        lambda: (name, arrivals) in [(it.name, len(it.arrived)) for it in barriers.open()],
    )


async def until(memory: MemoryCluster, condition: Callable[[], bool]) -> None:
    """Look after each turn of a cluster; they turn for their heartbeats as well."""
    turned = asyncio.Event()
    for cluster in memory.clusters.values():
        cluster.layer_face.add_layer_listener(turned.set)
    while not condition():
        turned.clear()
        await turned.wait()


# ------------------------------------------------------------------------------- register


@pytest.mark.parametrize("name", ["", "x" * 33, "ä" * 17, "a\nb", 7, None, b"b"])
def test_a_bad_name_is_einval(name: Any) -> None:
    """cman counted bytes, and so do we."""

    async def body(_: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        assert await cmans[0].register(name) == -errno.EINVAL

    scene(body, nodes=1)


@pytest.mark.parametrize("name", ["x" * 32, "ä" * 16, "a b"])
def test_a_name_at_the_limit_works(name: str) -> None:
    """Together with our prefix it is within the limit of the cluster's names."""

    async def body(_: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        assert await cmans[0].register(name) == 0
        assert await cmans[0].wait(name) == 0

    scene(body, nodes=1)


def test_registering_is_checked() -> None:
    """The same number again is welcome, another one is not."""

    async def body(_: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        cman: Any = cmans[0]
        assert await cman.register("b", 0, 2) == 0
        assert await cman.register("b", Flag.AUTODELETE, 2) == 0
        assert await cman.register("b", 0, 3) == -errno.EINVAL
        for nodes in (-1, 65, 1.0, "2"):
            assert await cman.register("c", 0, nodes) == -errno.EINVAL
        for flags in (-1, 32, "1"):
            assert await cman.register("c", flags) == -errno.EINVAL
        assert await cman.register("c", 31, 64) == 0

    scene(body, nodes=1)


def test_a_cluster_has_one_face_and_a_namespace_of_its_own() -> None:
    """Plain barriers of the same name have nothing to do with it."""

    async def body(memory: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        assert CmanBarriers(memory.clusters[1]) is cmans[0]
        plain = await Barriers(memory.clusters[1]).arrive("b", parties=2, timeout=5)
        await register_all(cmans, "b")
        assert await wait_all(cmans, "b") == [0]
        assert not plain.done
        plain.cancel()

    scene(body, nodes=1)


# --------------------------------------------------------------------------------- change


def test_attributes_are_checked() -> None:
    """What is unknown is said, and what comes too late as well."""

    async def body(_: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        cman: Any = cmans[0]
        assert await cman.change("b", Attribute.TIMEOUT, 1) == -errno.ENOENT
        assert await cman.register("b", 0, 2) == 0
        assert await cman.change("b", Attribute.ENABLED, 0) == -errno.EINVAL
        for attribute, value in [(0, 1), (7, 1), (4, 65), (4, -1), (5, 1), (6, -1), (6, 0.5)]:
            assert await cman.change("b", attribute, value) == -errno.EINVAL
        assert await cman.change("b", Attribute.NODES, 3) == 0
        assert await cman.change("b", Attribute.TIMEOUT, 60) == 0
        assert await cman.change("b", Attribute.ENABLED, 1) == 0
        assert await cman.change("b", Attribute.ENABLED, 1) == 0
        for attribute, value in [(4, 2), (5, None), (6, 1)]:
            assert await cman.change("b", attribute, value) == -errno.EINVAL
        for attribute in (Attribute.AUTODELETE, Attribute.MULTISTEP):
            assert await cman.change("b", attribute, 1) == 0
            assert await cman.change("b", attribute, 0) == 0
        assert await cman.delete("b") == 0

    scene(body)


def test_the_attributes_of_a_complete_barrier_stay() -> None:
    """cman returned 0 and ignored them."""

    async def body(_: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        cman = cmans[0]
        assert await cman.register("b", 0, 1) == 0
        assert await cman.wait("b") == 0
        assert await cman.change("b", Attribute.NODES, 2) == 0
        assert await cman.change("b", Attribute.ENABLED, 1) == 0
        assert await cman.wait("b") == 0

    scene(body, nodes=1)


def test_enabled_arrives_without_waiting() -> None:
    """The split phase; the outcome is there for whoever waits later."""

    async def body(memory: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        await register_all(cmans, "b")
        for cman in cmans:
            assert await cman.change("b", Attribute.ENABLED, 1) == 0
        await until(memory, lambda: not Barriers(memory.clusters[1]).open())
        assert await wait_all(cmans, "b") == [0, 0, 0]

    scene(body)


def test_a_callback_is_called_once_with_name_and_code() -> None:
    """With ENABLED it needs no wait at all."""

    async def body(memory: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        told: list[tuple[int, str, int]] = []
        await register_all(cmans, "b", Flag.AUTODELETE)
        for number, cman in enumerate(cmans):
            callback = told_to(told, number)
            assert await cman.change("b", Attribute.CALLBACK, callback) == 0
            assert await cman.change("b", Attribute.ENABLED, 1) == 0
        await until(memory, lambda: len(told) == 3)
        assert sorted(told) == [(0, "b", 0), (1, "b", 0), (2, "b", 0)]
        # It has been deleted, so that waiting comes too late.
        assert await wait_all(cmans, "b") == [-errno.ENOENT] * 3
        assert len(told) == 3

    scene(body)


def told_to(told: list[tuple[int, str, int]], number: int) -> Callable[[str, int], object]:
    """A callback that remembers who was called with what."""
    return lambda name, code: told.append((number, name, code))


# ----------------------------------------------------------------------------------- wait


@pytest.mark.parametrize("nodes", [0, 3])
def test_all_are_released_and_the_code_stays(nodes: int) -> None:
    """A barrier without MULTISTEP is used once."""

    async def body(_: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        assert await cmans[0].wait("b") == -errno.ENOENT
        await register_all(cmans, "b", nodes=nodes)
        assert await wait_all(cmans, "b") == [0, 0, 0]
        assert await cmans[0].wait("b") == 0
        assert await cmans[0].delete("b") == 0
        assert await cmans[0].delete("b") == -errno.ENOENT
        assert await cmans[0].wait("b") == -errno.ENOENT

    scene(body)


def test_an_arrival_stands_whoever_registers_when() -> None:
    """cman dropped what came for a name that it did not know yet."""

    async def body(memory: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        one, two, three = cmans
        await register_all([one], "b")
        first = asyncio.create_task(one.wait("b"))
        await seen(memory, at=2, arrivals=1)
        await register_all([two, three], "b")
        assert await wait_all([two, three], "b") == [0, 0]
        assert await first == 0

    scene(body)


def test_multistep_is_used_again_and_again() -> None:
    """cman never implemented it."""

    async def body(_: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        steps: list[tuple[int, int]] = []

        async def work(number: int, cman: CmanBarriers) -> None:
            for step in range(10):
                steps.append((step, number))
                assert await cman.wait("b") == 0

        await register_all(cmans, "b", Flag.MULTISTEP)
        await asyncio.gather(*(work(number, cman) for number, cman in enumerate(cmans)))
        assert [step for step, _ in steps] == [step for step in range(10) for _ in range(3)]

    scene(body)


def test_multistep_gives_each_outcome_once() -> None:
    """Enabled and complete: the next wait has that outcome, the one after it is the next use."""

    async def body(memory: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        told: list[tuple[int, str, int]] = []
        one, two = cmans
        await register_all(cmans, "b", Flag.MULTISTEP)
        assert await one.change("b", Attribute.CALLBACK, told_to(told, 1)) == 0
        for _ in range(2):
            assert await one.change("b", Attribute.ENABLED, 1) == 0
            assert await two.wait("b") == 0
            await until(memory, lambda: not Barriers(memory.clusters[1]).open())
            assert await one.wait("b") == 0
        next_use = asyncio.create_task(one.wait("b"))
        await seen(memory, at=2, arrivals=1)
        assert await two.wait("b") == await next_use == 0
        assert told == [(1, "b", 0)] * 3

    scene(body, nodes=2)


def test_several_tasks_wait_at_one_barrier() -> None:
    """The node has arrived once, and all of them get the code; AUTODELETE does not forget them."""

    async def body(_: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        await register_all(cmans, "b", Flag.AUTODELETE)
        assert await wait_all([*cmans, cmans[0], cmans[0]], "b") == [0] * 5
        assert await cmans[0].wait("b") == -errno.ENOENT

    scene(body)


def test_a_wait_that_is_cancelled_leaves_the_arrival() -> None:
    """As a signal did; and `interrupt` is that signal."""

    async def body(memory: MemoryCluster, cmans: list[CmanBarriers]) -> None:
        one, two = cmans
        assert await one.interrupt("b") == -errno.ENOENT
        await register_all(cmans, "b", Flag.MULTISTEP)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await one.wait("b")
        await seen(memory, at=2, arrivals=1)
        waiting = asyncio.create_task(one.wait("b"))
        await asyncio.sleep(0)  # it waits
        assert await one.interrupt("b") == 0
        assert await waiting == -errno.EINTR
        assert await two.wait("b") == 0
        assert await one.wait("b") == 0

    scene(body, nodes=2)


# ------------------------------------------------------------------------- what goes wrong


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
        await asyncio.sleep(0)
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
        await asyncio.sleep(0)
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
