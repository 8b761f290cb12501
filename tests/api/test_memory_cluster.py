"""The public face over the in-process cluster: what a user's own test would do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from phalanx.barrier import Barriers
from phalanx.transport import (
    BarrierBroken,
    BarrierTimeout,
    ClosedError,
    Cluster,
    Message,
    Overloaded,
    Undelivered,
    UsageError,
    ViewInstalled,
)
from phalanx.transport.testing.memory import MemoryCluster, memory_cluster

GUARD_S = 20.0


def scene(body: Callable[[MemoryCluster], Coroutine[Any, Any, None]], nodes: int = 3) -> None:
    """Run a scene over a fresh cluster, with a guard against hanging."""

    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S), memory_cluster(nodes) as cluster:
            await body(cluster)

    asyncio.run(guarded())


async def messages(cluster: Cluster, count: int) -> list[Message]:
    """The next `count` messages."""
    found: list[Message] = []
    async for event in cluster:
        if isinstance(event, Message):
            found.append(event)
            if len(found) == count:
                break
    return found


def test_a_multicast_reaches_every_member_the_sender_included() -> None:
    """The sender is a member like any other."""

    async def body(memory: MemoryCluster) -> None:
        receipt = await memory.clusters[1].multicast(b"hello", channel="x")
        await receipt.held(timeout=5)
        for cluster in memory.clusters.values():
            (message,) = await messages(cluster, 1)
            assert (message.sender, message.payload, message.channel) == (1, b"hello", "x")
            assert message.view_id == cluster.view.id

    scene(body)


def test_messages_of_one_sender_arrive_in_the_order_sent() -> None:
    """Guarantee 2, in the batch form and over the limit of a batch."""

    async def body(memory: MemoryCluster) -> None:
        payloads = [b"%d" % number for number in range(20_000)]
        receipt = await memory.clusters[2].multicast_many(payloads)
        got = await messages(memory.clusters[3], len(payloads))
        assert [message.payload for message in got] == payloads
        await receipt.held(timeout=5)

    scene(body)


def test_many_messages_to_one_member_arrive_in_the_order_sent() -> None:
    """With one receipt for all of them, and at nobody else; none is accepted if one is refused."""

    async def body(memory: MemoryCluster) -> None:
        one, other = memory.clusters[1], memory.clusters[2]
        receipt = await one.send_many(3, (b"%d" % number for number in range(5000)))
        got = await messages(memory.clusters[3], 5000)
        assert [message.payload for message in got] == [b"%d" % number for number in range(5000)]
        assert all(message.directed and message.sender == 1 for message in got)
        await receipt.held(timeout=5)
        with pytest.raises(UsageError, match="does not send to itself"):
            await one.send_many(1, [b"x"])
        with pytest.raises(UsageError, match="at least one message"):
            await one.send_many(3, [])
        with pytest.raises(UsageError, match="not str"):
            await one.send_many(2, [b"x", "y"])  # type: ignore[list-item]  # on purpose
        await one.multicast(b"only this")
        (message,) = await messages(other, 1)
        assert message.payload == b"only this"

    scene(body)


@pytest.mark.parametrize("size", [0, 1, (60 << 10) - 8, 60 << 10, (60 << 10) + 1, 16 << 20])
def test_a_message_of_any_size_up_to_the_limit_arrives_unchanged(size: int) -> None:
    """Large messages are cut into pieces and put together again."""

    async def body(memory: MemoryCluster) -> None:
        payload = bytes(range(256)) * (size // 256 + 1)
        await memory.clusters[1].send(3, payload[:size], lane="bulk")
        await memory.clusters[1].multicast(payload[:size])
        first, second = await messages(memory.clusters[3], 2)
        assert {first.directed, second.directed} == {True, False}
        assert first.payload == second.payload == payload[:size]

    scene(body)


def test_a_message_past_the_limit_is_refused_at_once() -> None:
    """A caller's mistake is said to the caller."""

    async def body(memory: MemoryCluster) -> None:
        with pytest.raises(UsageError, match="16777216"):
            await memory.clusters[1].multicast(bytes((16 << 20) + 1))
        with pytest.raises(UsageError, match="lane"):
            await memory.clusters[1].multicast(b"", lane="control")
        with pytest.raises(UsageError, match="itself"):
            await memory.clusters[1].send(1, b"")
        with pytest.raises(UsageError, match="no node"):
            await memory.clusters[1].send("nobody", b"")

    scene(body)


def test_a_sender_is_told_when_there_is_no_room_and_waits_if_it_asks_to() -> None:
    """Nothing is dropped and nothing grows: guarantee 3."""

    async def body(memory: MemoryCluster) -> None:
        sender, reader = memory.clusters[1], memory.clusters[2]
        payload = bytes(50_000)
        sent = 0
        refused = False
        while not refused:
            try:
                await sender.multicast(payload, wait=False)
                sent += 1
            except Overloaded:
                refused = True
            await asyncio.sleep(0)
        # Node 2's queue and the window are full; reading makes room again.
        reading = asyncio.gather(
            *(messages(cluster, sent + 1) for cluster in memory.clusters.values())
        )
        receipt = await sender.multicast(payload, timeout=5)
        await reading
        await receipt.held(timeout=5)
        assert reader.stats()["queue"]["bytes"] == 0

    scene(body)


def test_a_node_that_leaves_is_out_of_the_view_and_its_calls_say_so() -> None:
    """Leaving is a proof like a death, without its delay."""

    async def body(memory: MemoryCluster) -> None:
        leaver, stayer = memory.clusters[3], memory.clusters[1]
        await leaver.leave()
        with pytest.raises(ClosedError):
            await leaver.multicast(b"late")
        async for event in stayer:
            if isinstance(event, ViewInstalled) and 3 not in event.view.members:
                assert event.left == {3: "left in good order"}
                break
        assert stayer.view.members == (1, 2)

    scene(body)


def test_a_receipt_names_who_left_without_the_message() -> None:
    """The sender learns the fate of each message by member."""

    async def body(memory: MemoryCluster) -> None:
        for rail in "ab":
            memory.network.cut(3, rail)
        receipt = await memory.clusters[1].multicast(b"not for 3")
        with pytest.raises(Undelivered) as lost:
            await receipt.held(timeout=5)
        assert lost.value.missing == {3: "unreachable"}

    scene(body)


def test_a_barrier_is_released_when_all_have_arrived_and_not_before() -> None:
    """Guarantee 9, and the cut: what was sent before is there to be taken."""

    async def body(memory: MemoryCluster) -> None:
        one, two, three = (Barriers(memory.clusters[node]) for node in (1, 2, 3))
        await memory.clusters[1].multicast(b"before")
        first = asyncio.create_task(one.wait("start", timeout=5))
        second = asyncio.create_task(two.wait("start", timeout=5))
        await asyncio.sleep(0)
        assert not first.done()
        release = await three.wait("start", timeout=5)
        payloads = [e.payload for e in memory.clusters[3].take_ready() if isinstance(e, Message)]
        assert payloads == [b"before"]
        assert await first == release == await second

    scene(body)


def test_a_barrier_time_out_names_the_missing_to_every_party() -> None:
    """Guarantee 11: the same outcome for all, from the order and not from local clocks."""

    async def body(memory: MemoryCluster) -> None:
        one, two = (Barriers(memory.clusters[node]) for node in (1, 2))
        other = asyncio.create_task(two.wait("late", timeout=10))
        with pytest.raises(BarrierTimeout) as timed_out:
            await one.wait("late", timeout=0.2)
        with pytest.raises(BarrierBroken) as broken:
            await other
        assert set(timed_out.value.missing) == set(broken.value.missing) == {3}

    scene(body)


def test_one_node_alone_is_a_cluster_too() -> None:
    """The degenerate case of every rule."""

    async def body(memory: MemoryCluster) -> None:
        cluster = memory.clusters[1]
        receipt = await cluster.multicast(b"to myself")
        await receipt.held(timeout=1)
        (message,) = await messages(cluster, 1)
        assert message.payload == b"to myself"
        await Barriers(cluster).wait("alone", timeout=1)

    scene(body, nodes=1)
