"""What nobody reads: bounded, in its place, and never lost in silence."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from phalanx.transport import (
    ClosedError,
    Cluster,
    Event,
    EventsLost,
    Evicted,
    Lane,
    Message,
    PathChanged,
    PrimaryLost,
    PrimaryRegained,
    RailState,
    UsageError,
    ViewId,
    ViewInstalled,
)
from phalanx.transport.config import NODES_MAX, RAILS_MAX
from phalanx.transport.core.outputs import Delivered
from phalanx.transport.faces import EVENTS_MAX, PATH_CHANGES_MAX, EventQueue
from phalanx.transport.testing.memory import MemoryNetwork, join_all, memory_config

VIEW = ViewId(1, 1)
LOST = PrimaryLost(view_id=VIEW, reachable=(1,))
REGAINED = PrimaryRegained(view_id=VIEW)
GUARD_S = 20.0


class Face:
    """A queue, and what it did to its lanes."""

    def __init__(self, bytes_max: int = 1 << 20) -> None:
        self.calls: list[tuple[Lane, bool]] = []
        self.queue = EventQueue(
            bytes_max=bytes_max, freeze=lambda lane, frozen: self.calls.append((lane, frozen))
        )

    def put(self, event: Event, times: int = 1) -> None:
        for _ in range(times):
            self.queue.put(event)

    def deliver(self, payload: bytes) -> None:
        self.queue.put(Delivered(2, Lane.FIFO, "", False, [payload], VIEW, 1, len(payload)))


def path(peer: int, rail: str, state: RailState) -> PathChanged:
    """News of a path."""
    return PathChanged(peer=peer, rail=rail, state=state, primary=False)


# ------------------------------------------------------------------------------ path changes


def test_path_changes_are_all_kept_up_to_the_limit() -> None:
    """A reader that is a little late sees every flap."""
    face = Face()
    face.put(path(2, "a", RailState.DOWN), PATH_CHANGES_MAX)
    assert len(face.queue.ready()) == PATH_CHANGES_MAX
    assert face.queue.stats() == {"items": 0, "bytes": 0}


def test_one_path_change_past_the_limit_leaves_the_newest_of_each_path_in_its_place() -> None:
    """A rail that flaps for weeks says nothing but how it is now; all else stays where it was."""
    face = Face()
    face.deliver(b"first")
    face.put(path(3, "b", RailState.UP))
    face.put(LOST)
    face.put(path(2, "a", RailState.DOWN), PATH_CHANGES_MAX - 1)
    face.deliver(b"second")
    face.put(path(2, "a", RailState.UP))
    assert face.queue.stats()["items"] == 5
    assert face.queue.stats()["path_changes_merged"] == PATH_CHANGES_MAX - 1
    first, other, lost, second, newest = face.queue.ready()
    assert isinstance(first, Message)
    assert isinstance(second, Message)
    assert (first.payload, second.payload) == (b"first", b"second")
    assert (other, lost) == (path(3, "b", RailState.UP), LOST)
    assert newest == path(2, "a", RailState.UP)


def test_flapping_paths_never_take_more_than_the_limit() -> None:
    """Also with as many paths as a cluster can have, and merging stays rare."""
    assert PATH_CHANGES_MAX >= 2 * (NODES_MAX - 1) * RAILS_MAX
    face = Face()
    for number in range(5 * PATH_CHANGES_MAX):
        face.put(path(number % (NODES_MAX - 1), "abcdefgh"[number % RAILS_MAX], RailState.UP))
        assert face.queue.stats()["items"] <= PATH_CHANGES_MAX


# ------------------------------------------------------------------------------ other events


def test_other_events_are_all_kept_up_to_the_limit() -> None:
    """None of them is ever merged: each view is a step of the one stream."""
    face = Face()
    face.put(LOST, EVENTS_MAX)
    assert face.queue.ready() == [LOST] * EVENTS_MAX
    assert face.queue.stats() == {"items": 0, "bytes": 0}


def test_past_the_limit_the_reader_is_told_where_how_many_and_which_are_missing() -> None:
    """Nothing grows without a limit, and nothing is lost in silence; messages never are."""
    face = Face()
    face.put(LOST, EVENTS_MAX)
    face.put(Evicted(view_id=VIEW))
    face.deliver(b"kept")
    face.put(LOST, 10_000)
    assert face.queue.stats()["items"] == EVENTS_MAX + 2
    assert face.queue.stats()["events_lost"] == 10_001
    assert face.queue.ready() == [LOST] * EVENTS_MAX
    face.put(REGAINED)
    with pytest.raises(EventsLost, match="1 Evicted, 10000 PrimaryLost") as lost:
        face.queue.ready()
    assert lost.value.lost == {"Evicted": 1, "PrimaryLost": 10_000}
    kept, regained = face.queue.ready()
    assert isinstance(kept, Message)
    assert kept.payload == b"kept"
    assert regained == REGAINED


def test_each_gap_has_its_own_place() -> None:
    """Between two gaps is what was kept between them."""
    face = Face()

    async def read() -> list[str]:
        found: list[str] = []
        face.put(LOST, EVENTS_MAX + 1)
        for _ in range(2):
            await face.queue.event()
        face.put(REGAINED, 3)
        face.queue.end(ClosedError("left"), in_good_order=True)
        while True:
            try:
                found.append(type(await face.queue.event()).__name__)
            except EventsLost as lost:
                found.append(str(lost.lost))
            except ClosedError:
                return found

    found = asyncio.run(read())
    assert found[-4:] == ["{'PrimaryLost': 1}", *["PrimaryRegained"] * 2, "{'PrimaryRegained': 1}"]


def test_iterating_goes_on_behind_a_gap() -> None:
    """The error is said once; the stream is not over."""
    face = Face()

    async def read() -> list[Event]:
        face.put(LOST, EVENTS_MAX + 1)
        face.queue.ready()
        with pytest.raises(EventsLost):
            await anext(face.queue.events())
        face.put(REGAINED)
        face.queue.end(ClosedError("left"), in_good_order=True)
        return [event async for event in face.queue.events()]

    assert asyncio.run(read()) == [REGAINED]


# ----------------------------------------------------------------------------- a new incarnation


def test_a_new_core_is_told_which_lanes_are_full() -> None:
    """It knows nothing of the queue, which outlives the core."""
    face = Face(bytes_max=1000)
    face.deliver(bytes(1000))
    face.queue.freeze_again()
    assert face.calls == [(Lane.FIFO, True)] * 2
    face.queue.ready()
    face.queue.freeze_again()
    assert face.calls[2:] == [(Lane.FIFO, False)]


async def view_of(cluster: Cluster, *, with_node_3: bool) -> None:
    """Read until such a view is installed."""
    async for event in cluster:
        if isinstance(event, ViewInstalled) and (3 in event.view.members) is with_node_3:
            return


def test_a_lane_that_nobody_reads_stays_full_over_an_eviction(tmp_path: Path) -> None:
    """Whoever joins again without having read would else get another queue full each time."""

    async def play() -> None:
        base = memory_config(3)
        limits = replace(base.limits, receive_queue_bytes=1 << 20)
        config = replace(base, state_dir=str(tmp_path), limits=limits)
        network = MemoryNetwork()
        joining = {
            node: Cluster.join(config, node=node, rejoin=True, drivers=network)
            for node in (1, 2, 3)
        }
        clusters = await join_all(joining)
        one, lazy = clusters[1], clusters[3]
        for cluster in (one, clusters[2]):
            cluster.take_ready()

        async def fill() -> int:
            before = lazy.stats()["queue"]["bytes"]
            for _ in range(200):
                with_room = one.multicast(bytes(50_000), timeout=0.2)
                if isinstance(
                    (await asyncio.gather(with_room, return_exceptions=True))[0], Exception
                ):
                    break
                for cluster in (one, clusters[2]):
                    cluster.take_ready()
            return lazy.stats()["queue"]["bytes"] - before

        assert await fill() > 1 << 20
        for rail in "ab":
            network.cut(3, rail)
        await view_of(one, with_node_3=False)
        for rail in "ab":
            network.heal(3, rail)
        await view_of(one, with_node_3=True)
        assert lazy.incarnation == 2
        assert await fill() < 1 << 20
        await asyncio.gather(*(cluster.leave(timeout=0) for cluster in clusters.values()))

    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S):
            await play()

    asyncio.run(guarded())


def test_the_end_is_raised_anew_each_time() -> None:
    """An object that is raised again and again grows, and so do the frames that it holds."""
    face = Face()

    async def read() -> None:
        face.queue.end(UsageError("over"), in_good_order=False)
        errors: list[UsageError] = []
        for _ in range(3):
            with pytest.raises(UsageError, match="over") as ended:
                await face.queue.event()
            errors.append(ended.value)
        assert len(set(map(id, errors))) == 3

    asyncio.run(read())
