"""Ordered channels as programs use them, over whole clusters in memory."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from phalanx.barrier import Barriers, Entries, Entry, OrderedChannel
from phalanx.barrier.cman import CmanBarriers
from phalanx.transport import (
    ClosedError,
    Cluster,
    NoQuorum,
    Overloaded,
    StateFailed,
    UsageError,
    ViewInstalled,
)
from phalanx.transport.events import Position
from phalanx.transport.testing.memory import MemoryCluster, memory_cluster

GUARD_S = 30.0


def scene(body: Callable[[MemoryCluster], Coroutine[Any, Any, None]], nodes: int = 3) -> None:
    """Run a scene over a fresh cluster, with a guard against hanging."""

    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S), memory_cluster(nodes) as cluster:
            await body(cluster)

    asyncio.run(guarded())


async def open_all(memory: MemoryCluster, name: str = "log") -> dict[int, OrderedChannel]:
    """The same channel on every node, from one place on."""
    channels = {node: OrderedChannel(it, name) for node, it in memory.clusters.items()}
    for channel in channels.values():
        await channel.opened()
    return channels


async def take(channel: OrderedChannel, count: int) -> list[Entry]:
    """The next `count` entries."""
    entries: list[Entry] = []
    async for entry in channel:
        entries.append(entry)
        if len(entries) == count:
            break
    return entries


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until it is so; the guard of the scene bounds it."""
    for _ in range(10**5):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never was so")


class Counter:
    """A replicated application: the sum of all entries."""

    def __init__(self, cluster: Cluster, name: str = "sum") -> None:
        self.total = 0
        self.taken = 0
        self.given = 0
        self.channel = OrderedChannel(
            cluster, name, on_state_request=self._give, on_state=self._take
        )

    def _give(self) -> bytes:
        self.given += 1
        return b"%d" % self.total

    def _take(self, state: bytes) -> None:
        self.taken += 1
        self.total = int(state)

    async def read(self, until: Position) -> None:
        """Apply entries up to a position."""
        async for entry in self.channel:
            self.total += int(entry.payload)
            if entry.position >= until:
                return


def test_all_read_the_same_sequence_with_the_same_positions() -> None:
    """Everybody publishes at once; nobody is asked for an order."""

    async def body(memory: MemoryCluster) -> None:
        channels = await open_all(memory)

        async def publish(node: int) -> list[Position]:
            return [await channels[node].publish(b"%d of %d" % (i, node)) for i in range(20)]

        given = await asyncio.gather(*map(publish, channels))
        read = await asyncio.gather(*(take(channel, 60) for channel in channels.values()))
        assert read[0] == read[1] == read[2]
        positions = [entry.position for entry in read[0]]
        assert positions == sorted(set(positions))
        for node, mine in zip(channels, given, strict=True):
            entries = [entry for entry in read[0] if entry.sender == node]
            assert [entry.position for entry in entries] == mine
            assert [entry.payload for entry in entries] == [
                b"%d of %d" % (i, node) for i in range(20)
            ]
        assert channels[1].position == positions[-1]

    scene(body)


def test_batches_stay_batches_and_channels_apart() -> None:
    """Each channel has its own entries, in one order over all of them."""

    async def body(memory: MemoryCluster) -> None:
        one, two = await open_all(memory, "one"), await open_all(memory, "two")
        many = [b"%d" % i for i in range(5000)]
        last, other = await asyncio.gather(
            one[1].publish_many(many), two[2].publish_many([b"a", b"b"])
        )
        for node in memory.clusters:
            got: list[bytes] = []
            batches = 0
            async for entries in one[node].batches():
                assert isinstance(entries, Entries)
                got += entries.payloads
                batches += 1
                if len(got) == len(many):
                    break
            assert got == many
            assert batches < 10
            assert one[node].position == last
            assert [entry.payload for entry in await take(two[node], 2)] == [b"a", b"b"]
            assert two[node].position == other

    scene(body)


def test_safe_entries_are_delivered_when_all_hold_them_and_keep_their_place() -> None:
    """What is behind a safe entry waits with it: one order is one order."""

    async def body(memory: MemoryCluster) -> None:
        channels = await open_all(memory)
        await channels[1].publish(b"first")
        safe, plain = await asyncio.gather(
            channels[1].publish(b"safe", safe=True), channels[1].publish(b"plain")
        )
        assert safe < plain
        for channel in channels.values():
            entries = await take(channel, 3)
            assert [entry.payload for entry in entries] == [b"first", b"safe", b"plain"]

    scene(body)


def test_a_channel_that_is_opened_late_begins_with_the_state_of_another() -> None:
    """State and entries fit together at one position, whoever publishes meanwhile."""

    async def body(memory: MemoryCluster) -> None:
        counters = {node: Counter(memory.clusters[node]) for node in (1, 2)}
        stop = asyncio.Event()
        published = 0

        async def publish() -> Position:
            nonlocal published
            while True:
                position = await counters[1].channel.publish(b"1")
                published += 1
                if stop.is_set():
                    return position

        publishing = asyncio.create_task(publish())
        end = Position(2**31, 0, 0)
        reading = [asyncio.create_task(counter.read(end)) for counter in counters.values()]
        await until(lambda: published >= 50)
        late = Counter(memory.clusters[3])
        late_reading = asyncio.create_task(late.read(end))
        await until(lambda: late.taken > 0)
        stop.set()
        await publishing
        last = await counters[2].channel.publish(b"1000")
        everybody = (*counters.values(), late)
        await until(lambda: all(counter.channel.position == last for counter in everybody))
        assert late.total == counters[1].total == counters[2].total == published + 1000
        # Of the first two, one began before the other.
        assert (counters[1].taken + counters[2].taken, late.taken) == (1, 1)
        assert counters[1].given + counters[2].given == 2
        for task in (*reading, late_reading):
            task.cancel()

    scene(body)


def test_large_states_come_in_parts() -> None:
    """And the entries behind them wait in the queue."""

    async def body(memory: MemoryCluster) -> None:
        state = bytes(range(256)) * 4096
        taken: list[bytes] = []
        first = OrderedChannel(
            memory.clusters[1], "big", on_state_request=lambda: state, on_state=taken.append
        )
        await first.publish(b"x")
        assert len(await take(first, 1)) == 1
        second = OrderedChannel(
            memory.clusters[2], "big", on_state_request=lambda: b"", on_state=taken.append
        )
        reading = asyncio.create_task(take(first, 1))
        entries = asyncio.create_task(take(second, 1))
        await second.publish(b"after")
        assert [entry.payload for entry in await entries] == [b"after"]
        assert [entry.payload for entry in await reading] == [b"after"]
        assert taken == [state]

    scene(body)


def test_without_hooks_a_late_channel_begins_at_its_opening() -> None:
    """What was ordered before is not delivered; positions still agree."""

    async def body(memory: MemoryCluster) -> None:
        first = OrderedChannel(memory.clusters[1], "log")
        await first.publish(b"before")
        second = OrderedChannel(memory.clusters[2], "log")
        position = await second.publish(b"after")
        (entry,) = await take(second, 1)
        assert (entry.payload, entry.position) == (b"after", position)
        assert [it.payload for it in await take(first, 2)] == [b"before", b"after"]

    scene(body)


def test_a_barrier_cuts_what_was_published_before_it() -> None:
    """Everything published before the arrival is in the queue after the release, safe or not."""

    async def body(memory: MemoryCluster) -> None:
        channels = await open_all(memory)
        barriers = {node: Barriers(it) for node, it in memory.clusters.items()}

        async def work(node: int) -> None:
            for round_ in range(10):
                await channels[node].submit([b"%d" % round_] * 3, safe=bool(round_ % 2))
                await barriers[node].wait("round")
                here = [it for it in channels[node].take_ready() if isinstance(it, Entries)]
                count = sum(len(it.payloads) for it in here)
                assert count == 9, f"node {node} has {count} in round {round_}"
                await barriers[node].wait("read")

        await asyncio.gather(*map(work, channels))

    scene(body)


def test_a_reader_that_does_not_read_stops_the_publishers_and_nothing_else() -> None:
    """Memory is bounded; barriers and other lanes go on."""

    async def body(memory: MemoryCluster) -> None:
        channels = await open_all(memory)
        block = bytes(1 << 20)
        with pytest.raises(Overloaded):
            await channels[1].submit([block] * 64, timeout=0.5)
        barriers = {node: Barriers(cluster) for node, cluster in memory.clusters.items()}
        # Its own entries wait, so that nothing that promises their delivery can go before them.
        await asyncio.gather(*(barriers[node].wait("two", parties=2, timeout=5) for node in (2, 3)))
        await asyncio.gather(
            *(it.wait("all", strength="arrived", timeout=5) for it in barriers.values())
        )
        receipt = await memory.clusters[2].multicast(b"x")
        await receipt.held(timeout=5)
        reading = [asyncio.create_task(take(channels[node], 10**9)) for node in memory.clusters]
        await channels[2].publish(b"at last", timeout=10)
        for task in reading:
            task.cancel()

    scene(body)


def test_in_a_minority_publishing_raises_and_what_is_open_is_unknown() -> None:
    """Nobody acts without a majority."""

    async def body(memory: MemoryCluster) -> None:
        channels = await open_all(memory)
        await channels[3].publish(b"before")
        for rail in ("a", "b"):
            memory.network.cut(3, rail)
        open_now = asyncio.create_task(channels[3].publish(b"lost?"))
        with pytest.raises(NoQuorum) as raised:
            await open_now
        assert raised.value.outcome == "unknown"
        with pytest.raises(NoQuorum) as refused:
            await channels[3].publish(b"refused")
        assert refused.value.outcome == "none"

    scene(body)


def test_views_stand_between_the_entries() -> None:
    """Who cares about membership reads it in its place."""

    async def body(memory: MemoryCluster) -> None:
        channels = await open_all(memory)
        await channels[1].publish(b"before")
        await memory.clusters[3].leave()
        kinds: list[str] = []
        async for item in channels[1].events():
            if isinstance(item, ViewInstalled):
                kinds.append("view")
                if item.view.members == (1, 2):
                    break
            else:
                kinds.append("entries")
        assert kinds == ["entries", "view"]

    scene(body)


def test_threads_publish_too() -> None:
    """A worker thread of an asyncio program has no loop of its own."""

    async def body(memory: MemoryCluster) -> None:
        channels = await open_all(memory)
        positions: list[Position] = []

        def work() -> None:
            positions.extend(
                channels[1].publish_from_thread(b"%d" % i).result(timeout=5) for i in range(10)
            )

        thread = threading.Thread(target=work)
        thread.start()
        entries = await take(channels[2], 10)
        await asyncio.to_thread(thread.join, 5)
        assert [entry.position for entry in entries] == positions

    scene(body)


def test_misuse_is_refused_at_once() -> None:
    """The caller's mistakes raise; they never reach the other nodes."""

    async def body(memory: MemoryCluster) -> None:
        cluster = memory.clusters[1]
        for name in ("", "!x", "x" * 65, "a\nb"):
            with pytest.raises(UsageError, match="name"):
                OrderedChannel(cluster, name)
        with pytest.raises(UsageError, match="both"):
            OrderedChannel(cluster, "x", on_state=print)
        channel = OrderedChannel(cluster, "x")
        with pytest.raises(UsageError, match="already"):
            OrderedChannel(cluster, "x")
        with pytest.raises(UsageError, match="bytes"):
            await channel.publish("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        reading = asyncio.create_task(take(channel, 1))
        await asyncio.sleep(0)
        with pytest.raises(UsageError, match="one reader"):
            await take(channel, 1)
        reading.cancel()
        channel.close()
        channel.close()
        again = OrderedChannel(cluster, "x")
        await again.publish(b"1")
        assert [entry.payload for entry in await take(again, 1)] == [b"1"]

    scene(body)


def test_a_hook_that_fails_closes_the_channel_and_the_newcomer_goes_on() -> None:
    """Its state is in doubt, so nobody else may have it."""

    async def body(memory: MemoryCluster) -> None:
        def fails() -> bytes:
            raise ValueError("no state today")

        first = OrderedChannel(
            memory.clusters[1], "x", on_state_request=fails, on_state=lambda _: None
        )
        await first.publish(b"1")
        assert len(await take(first, 1)) == 1
        second = OrderedChannel(
            memory.clusters[2], "x", on_state_request=lambda: b"", on_state=lambda _: None
        )
        with pytest.raises(StateFailed, match="no state today"):
            await take(first, 1)
        await second.publish(b"2")
        assert [entry.payload for entry in await take(second, 1)] == [b"2"]

    scene(body)


def test_reading_ends_when_the_cluster_is_left() -> None:
    """In good order; afterwards every call says so."""

    async def body(memory: MemoryCluster) -> None:
        channels = await open_all(memory)
        await channels[1].publish(b"1")
        await memory.clusters[1].leave()
        assert [entry.payload async for entry in channels[1]] == [b"1"]
        with pytest.raises(ClosedError):
            await channels[1].publish(b"2")

    scene(body)


def test_who_waited_for_room_is_told_where_its_entry_is() -> None:
    """Alone in a view, what is accepted is ordered before the one who waited runs again."""

    async def body(memory: MemoryCluster) -> None:
        channel = OrderedChannel(memory.clusters[1], "log")
        await channel.opened()
        reading = asyncio.create_task(take(channel, 10**9))
        block = bytes(60_000)
        counts = [1 + number * 7 % 40 for number in range(60)]
        positions = await asyncio.gather(
            *(channel.publish_many([block] * count, timeout=10) for count in counts)
        )
        assert positions == sorted(positions)
        assert positions[-1].index - positions[0].index == sum(counts[1:])
        reading.cancel()

    scene(body, nodes=1)


def test_a_cluster_that_was_left_is_forgotten_with_its_services() -> None:
    """A program that joins again and again does not grow."""
    left: list[weakref.ref[object]] = []

    async def body(memory: MemoryCluster) -> None:
        await open_all(memory)
        for cluster in memory.clusters.values():
            assert Barriers(cluster) is Barriers(cluster)
            assert CmanBarriers(cluster) is CmanBarriers(cluster)
            left.append(weakref.ref(cluster.layer_face))

    scene(body)
    gc.collect()
    assert [ref() for ref in left] == [None] * 3
