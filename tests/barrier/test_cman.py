"""cman's calls and return codes, over clusters in memory."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from phalanx.barrier import Barriers
from phalanx.barrier.cman import Attribute, CmanBarriers, Flag
from phalanx.transport.testing.memory import MemoryCluster

from .cman_scenes import register_all, scene, seen, told_to, until, wait_all

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
