"""The blocking faces: calls from ordinary threads, their deadlines, interrupts and ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from phalanx.barrier.blocking import Barriers
from phalanx.transport import (
    BarrierBroken,
    BarrierTimeout,
    Batch,
    ClosedError,
    Event,
    EventsLost,
    JoinTimeout,
    Message,
    NoQuorum,
    Overloaded,
    PrimaryLost,
    Undelivered,
    UsageError,
    ViewId,
    ViewInstalled,
)
from phalanx.transport.blocking import Cluster, attach
from phalanx.transport.bridge import Bridge
from phalanx.transport.calls import PROCESS
from phalanx.transport.pulling import Pulling, Reader
from phalanx.transport.testing.memory import MemoryNetwork, memory_config

from .threads import (
    GUARD_S,
    ThreadedNetwork,
    asyncio_program,
    in_thread,
    in_threads,
    interrupt,
    messages,
    until,
)

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


# ------------------------------------------------------------------------------- the everyday


def test_messages_reach_every_member_in_the_order_sent(three: dict[int, Cluster]) -> None:
    """What holds for the asyncio cluster holds for its blocking face."""
    one = three[1]
    assert one.view.members == (1, 2, 3)
    assert one.primary
    assert not one.detached
    assert (one.node_id, one.name, one.name_of(2), one.incarnation) == (1, "n1", "n2", 1)
    assert sorted(one.paths) == [2, 3]
    assert one.stats()["core"]
    assert one.lateness == {}, "nobody has ordered anything"
    numbers = [b"%d" % number for number in range(2000)]
    receipt = one.multicast_many(iter(numbers), channel="count")
    for cluster in three.values():
        got = messages(cluster, len(numbers))
        assert [message.payload for message in got] == numbers
        assert {(message.sender, message.channel) for message in got} == {(1, "count")}
    receipt.held(timeout=5)
    assert receipt.settled
    assert receipt.missing == {}
    three[2].send(1, b"for one", lane="bulk").held(5)
    assert messages(one, 1)[0].directed
    three[2].send_many(1, iter(numbers)).held(5)
    assert [message.payload for message in messages(one, len(numbers))] == numbers


def test_a_receipt_names_who_left_without_the_message() -> None:
    """The sender learns the fate of each message by member."""
    with asyncio_program() as (memory, loop):
        for rail in "ab":
            loop.call_soon_threadsafe(memory.network.cut, 3, rail)
        receipt = attach(memory.clusters[1]).multicast(b"not for 3")
        with pytest.raises(Undelivered) as lost:
            receipt.held(timeout=5)
        assert lost.value.missing == receipt.missing == {3: "unreachable"}


def test_a_barrier_is_released_when_all_have_arrived(three: dict[int, Cluster]) -> None:
    """With everything sent before it, to be had without waiting (guarantee 10)."""
    services = {node: Barriers(cluster) for node, cluster in three.items()}
    three[1].multicast(b"before")
    early = [services[node].arrive("start", timeout=5) for node in (1, 2)]
    assert not any(arrival.done for arrival in early)
    until(lambda: [len(status.arrived) for status in services[3].open()] == [2])
    assert services[3].open()[0].name == "start"
    assert services[1].missing("start") == {3: "not arrived"}
    release = services[3].wait("start", timeout=5)
    got = [e.payload for e in three[3].take_ready() if isinstance(e, Message)]
    assert got == [b"before"]
    assert [arrival.wait() for arrival in early] == [release, release]
    assert all(arrival.done for arrival in early)
    assert services[1].stats()["released"] == 1


def test_threads_meet_at_a_barrier_again_and_again(three: dict[int, Cluster]) -> None:
    """Each wait blocks its own thread only."""

    def play(cluster: Cluster) -> list[object]:
        barriers = Barriers(cluster)
        return [barriers.wait("step", timeout=5) for _ in range(20)]

    first, *others = in_threads(*(lambda c=c: play(c) for c in three.values()))
    assert len(set(map(str, first))) == 20
    assert all(releases == first for releases in others)


def test_outcomes_of_barriers_are_raised_where_they_are_waited_for(
    three: dict[int, Cluster],
) -> None:
    """A deadline, and an arrival that is taken back."""
    one, two = (Barriers(three[node]) for node in (1, 2))
    other = two.arrive("late", timeout=10)
    with pytest.raises(BarrierTimeout) as late:
        one.wait("late", timeout=0.2)
    with pytest.raises(BarrierBroken, match="node 1 timed out") as broken:
        other.wait()
    assert late.value.missing == broken.value.missing == {3: "not arrived"}
    arrival = one.arrive("back", timeout=5)
    arrival.cancel()
    with pytest.raises(BarrierBroken, match="cancelled by node 1"):
        arrival.wait()


# ------------------------------------------------------------------------------- reading


def test_reading_pulls_one_batch_at_a_time(alone: Cluster) -> None:
    """Between the threads there is no second queue that could grow."""
    assert isinstance(alone.next(timeout=5), ViewInstalled)
    for number in range(5):
        alone.multicast_many([b"%d" % number] * 10).held(timeout=5)
    assert alone.stats()["queue"]["items"] == 5
    assert isinstance(alone.next(timeout=5), Message)
    assert alone.stats()["queue"]["items"] == 4
    rest: list[Event] = alone.take_ready()
    assert len(rest) == 49
    assert alone.take_ready() == []


def test_a_reader_that_does_not_read_stops_the_senders(alone: Cluster) -> None:
    """Guarantee 3: nothing is dropped, and nothing grows."""

    with pytest.raises(Overloaded):
        alone.multicast_many([bytes(1 << 20)] * 1000, timeout=0.5)
    assert alone.take_ready()
    alone.multicast(b"there is room", timeout=5)


def test_batches_come_as_batches(alone: Cluster) -> None:
    """The fast form; after a single message the rest of its batch comes one by one."""
    alone.multicast_many([b"1", b"2"]).held(timeout=5)
    alone.multicast_many([b"3", b"4"]).held(timeout=5)
    assert isinstance(alone.next(5), ViewInstalled)
    assert isinstance(alone.next(5), Message)
    source = alone.batches()
    rest, batch = next(source), next(source)
    assert isinstance(rest, Message)
    assert rest.payload == b"2"
    assert isinstance(batch, Batch)
    assert batch.payloads == [b"3", b"4"]


def test_waiting_for_an_event_has_its_deadline_and_loses_nothing(alone: Cluster) -> None:
    """A reader that polls gets every event all the same."""
    assert isinstance(alone.next(timeout=0), ViewInstalled)
    for number in range(20):
        with pytest.raises(TimeoutError, match="no event within"):
            alone.next(timeout=0.001 * (number % 3))
        alone.multicast(b"%d" % number).held(timeout=5)
        event = alone.next(timeout=0)
        assert isinstance(event, Message)
        assert event.payload == b"%d" % number


def test_a_second_reader_is_refused(alone: Cluster) -> None:
    """Two threads would share the stream, and neither would have all of it."""
    assert isinstance(alone.next(timeout=5), ViewInstalled)
    reading = threading.Event()

    def read() -> Event:
        reading.set()
        return alone.next(timeout=GUARD_S)

    def refused() -> bool:
        with pytest.raises((UsageError, TimeoutError)) as why:
            alone.next(timeout=0)
        return "one reader" in str(why.value)

    with in_thread(read) as first:
        assert reading.wait(GUARD_S)
        until(refused)
        alone.multicast(b"x")
        assert isinstance(first.result(GUARD_S), Message)


def test_events_that_are_missing_are_told_in_their_place(alone: Cluster) -> None:
    """`EventsLost` once, by whichever call comes to it; then the stream goes on."""
    alone.take_ready()
    first, second = (
        Message(sender=1, payload=b"1", view_id=VIEW),
        PrimaryLost(view_id=VIEW, reachable=()),
    )
    calls: dict[str, Callable[[Reader], list[Event]]] = {
        "ready": lambda reader: reader.ready(),
        "next": lambda reader: _events(reader.event(5)),
        "batches": lambda reader: _events(reader.batch(5)),
    }
    for name, call in calls.items():
        pulling = Pulling(alone.inner)
        pulling.over = True
        pulling.items.extend([first, EventsLost(lost={"PrimaryLost": 3}), second])
        reader = Reader(Bridge(alone.inner.home), pulling, stateful=True)
        assert call(reader) == [first], name
        with pytest.raises(EventsLost) as lost:
            call(reader)
        assert lost.value.lost == {"PrimaryLost": 3}
        assert call(reader) == [second], name
        assert call(reader) == [], name


def _events(event: Batch | Event | None) -> list[Event]:
    assert not isinstance(event, Batch)
    return [] if event is None else [event]


VIEW = ViewId(1, 1)


def test_hooks_for_state_are_called_when_the_reader_comes_to_them(tmp_path: Path) -> None:
    """A state made earlier would lack what the reader holds and has not worked on."""
    config = replace(memory_config(3), state_dir=str(tmp_path))
    network = ThreadedNetwork()
    given: list[int] = []
    seen: list[bytes] = []

    def give() -> bytes:
        given.append(len(seen))
        return b"".join(seen)

    def join(node: int) -> Cluster:
        return Cluster.join(
            config,
            node=node,
            drivers=network,
            timeout=GUARD_S,
            on_state_request=give,
            on_state=seen.append if node == 3 else lambda _: None,
        )

    with ExitStack() as stack:
        one, two, three = in_threads(*(lambda n=n: join(n) for n in (1, 2, 3)))
        for cluster in (one, two):
            stack.enter_context(cluster)
        one.multicast_many([b"a", b"b"]).held(timeout=5)
        three.leave()
        three = stack.enter_context(join(3))
        # Node 1 is asked for its state, and has read nothing yet.
        (message,) = messages(one, 1)
        seen.append(message.payload)
        rest = one.take_ready()
        assert given == []
        seen.extend(event.payload for event in rest if isinstance(event, Message))
        while not given:
            one.take_ready()
        assert given == [2]
        assert seen == [b"a", b"b"]
        for event in three:
            if isinstance(event, ViewInstalled):
                break
        assert seen == [b"a", b"b", b"ab"]


# ------------------------------------------------------------------------------- leaving


def test_what_was_not_read_can_be_read_after_leaving(alone: Cluster) -> None:
    """The loop has ended by then, so it has been handed over before."""
    alone.multicast_many([b"1", b"2"]).held(timeout=5)
    assert isinstance(alone.next(5), ViewInstalled)
    alone.leave()
    alone.leave()
    assert [event.payload for event in alone if isinstance(event, Message)] == [b"1", b"2"]
    assert list(alone) == []
    assert alone.take_ready() == []
    with pytest.raises(ClosedError, match="left"):
        alone.next()
    for call in (lambda: alone.multicast(b"x"), lambda: alone.view, alone.stats):
        with pytest.raises(ClosedError, match="left"):
            call()


def test_leaving_ends_what_other_threads_wait_for(three: dict[int, Cluster]) -> None:
    """Guarantee 12: a thread that reads, and one at a barrier."""
    leaver, stayer = three[1], three[2]
    seen = Barriers(stayer)
    with (
        in_thread(lambda: list(leaver)) as reading,
        in_thread(lambda: Barriers(leaver).wait("never", timeout=GUARD_S)) as waiting,
    ):
        until(lambda: bool(seen.open()))
        in_threads(leaver.leave, leaver.leave)
        assert any(isinstance(event, ViewInstalled) for event in reading.result(GUARD_S))
        with pytest.raises(NoQuorum, match="left"):
            waiting.result(GUARD_S)
    for event in stayer:
        if isinstance(event, ViewInstalled) and 1 in event.left:
            assert event.left == {1: "left in good order"}
            break


def test_joining_that_fails_leaves_no_thread(tmp_path: Path) -> None:
    """The caller's mistakes, and nobody else there."""
    config = replace(memory_config(3), state_dir=str(tmp_path))
    with pytest.raises(UsageError, match="no node"):
        Cluster.join(config, node="nobody", drivers=MemoryNetwork())
    with pytest.raises(JoinTimeout, match="n2"):
        Cluster.join(config, node=1, drivers=MemoryNetwork(), timeout=0.2)


# ------------------------------------------------------------------------------- interrupts


def test_an_interrupted_wait_takes_the_arrival_back(three: dict[int, Cluster]) -> None:
    """Ctrl-C leaves nothing running, and the other parties learn of it at once."""
    one, two = Barriers(three[1]), Barriers(three[2])

    def other() -> None:
        arrival = two.arrive("meeting", timeout=GUARD_S)
        until(lambda: two.missing("meeting") == {3: "not arrived"})
        interrupt()
        with pytest.raises(BarrierBroken, match="cancelled by node 1"):
            arrival.wait()

    with in_thread(other) as told:
        with pytest.raises(KeyboardInterrupt):
            one.wait("meeting", timeout=GUARD_S)
        told.result(GUARD_S)
    assert one.open() == []
    assert one.wait("alone", parties=1, timeout=5).name == "alone"


def test_an_arrival_that_comes_with_the_interrupt_is_taken_back(
    three: dict[int, Cluster],
) -> None:
    """The loop has made it, and nobody has got it: it must not stay."""
    inner = three[1].inner
    undone: list[int] = []

    async def arrive() -> int:
        interrupt()
        return inner.node_id

    with pytest.raises(KeyboardInterrupt):
        # The interrupt comes before the result, or the result is thrown away: never both.
        _never_returns(three[1].call(arrive, 5, undo=undone.append))
    until(lambda: undone == [1])


def _never_returns(result: object) -> None:
    pytest.fail(f"interrupted, and yet it returned {result}")


def test_interrupted_joining_leaves_no_thread_and_no_port(tmp_path: Path) -> None:
    """The node is gone, and may be started again."""
    config = replace(memory_config(3), state_dir=str(tmp_path))
    network = MemoryNetwork()
    said: list[str] = []

    def on_waiting(words: str) -> None:
        if not said:
            interrupt()
        said.append(words)

    with pytest.raises(KeyboardInterrupt):
        Cluster.join(config, node=1, drivers=network, timeout=None, on_waiting=on_waiting)
    assert said
    assert network.find(1) is None
    with pytest.raises(JoinTimeout):
        Cluster.join(config, node=1, drivers=network, timeout=0.1)


def test_an_interrupted_reader_loses_nothing(alone: Cluster) -> None:
    """What it waited for is there for its next call."""
    assert isinstance(alone.next(5), ViewInstalled)

    def pulling() -> bool:
        return any("Pulling.pull" in repr(task) for task in asyncio.all_tasks())

    def press() -> None:
        until(lambda: alone.ask(pulling))
        interrupt()

    with in_thread(press), pytest.raises(KeyboardInterrupt):
        alone.next()
    alone.multicast(b"x")
    event = alone.next(timeout=5)
    assert isinstance(event, Message)
    assert event.payload == b"x"


# ------------------------------------------------------------------- where calls cannot work


def test_a_call_from_the_loops_own_thread_is_refused(alone: Cluster) -> None:
    """It would wait for itself."""

    async def call_inside() -> None:
        with pytest.raises(UsageError, match="own event loop"):
            alone.multicast(b"x")
        with pytest.raises(UsageError, match="own event loop"):
            alone.leave()

    alone.call(call_inside)
    alone.multicast(b"still here").held(timeout=5)


def test_a_forked_child_is_told_to_join_itself(
    alone: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread of the loop was not copied."""
    with monkeypatch.context() as child:
        child.setattr(PROCESS, "forks", PROCESS.forks + 1)
        for call in (alone.leave, lambda: alone.multicast(b"x"), alone.next, alone.stats):
            with pytest.raises(UsageError, match="fork"):
                call()
        with pytest.raises(UsageError, match="fork"):
            attach(alone.inner)
    alone.multicast(b"still here").held(timeout=5)


def test_a_stuck_loop_is_told_by_the_deadline(alone: Cluster) -> None:
    """Waiting ends although nobody answers, and what was asked is not done later."""
    freed, begun = threading.Event(), threading.Event()
    done: list[str] = []

    def block() -> None:
        begun.set()
        freed.wait(GUARD_S)

    async def record(words: str) -> str:
        done.append(words)
        return words

    bridge = Bridge(alone.inner.home)
    with in_thread(lambda: alone.ask(block)) as blocked:
        assert begun.wait(GUARD_S)
        with pytest.raises(TimeoutError, match="no answer"):
            bridge.call(lambda: record("late"), 0.01)
        freed.set()
        blocked.result(GUARD_S)
    assert bridge.call(lambda: record("in time"), 5) == "in time"
    assert done == ["in time"]


def test_a_call_past_its_limit_is_cancelled(alone: Cluster) -> None:
    """Its coroutine learns of it as any coroutine does."""
    ended: list[bool] = []

    async def sleepy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(TimeoutError):
        Bridge(alone.inner.home).call(sleepy, 0.01)
    assert ended == [True]
