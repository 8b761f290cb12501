"""The blocking faces of barriers and channels, call by call; `test_blocking.py` has waiting."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from phalanx.barrier import Entries, double, party, service
from phalanx.barrier.blocking import Barriers, Double, OrderedChannel, Party
from phalanx.barrier.events import Release
from phalanx.transport import BarrierBroken, BarrierMismatch, ClosedError, Message, UsageError
from phalanx.transport.blocking import Cluster

from .threads import GUARD_S, in_thread, in_threads, interrupt, until

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


@pytest.fixture
def services(three: dict[int, Cluster]) -> dict[int, Barriers]:
    """The barriers of three nodes."""
    return {node: Barriers(cluster) for node, cluster in three.items()}


def test_what_was_sent_in_bulk_is_there_if_it_is_asked_for(
    three: dict[int, Cluster], services: dict[int, Barriers]
) -> None:
    """`after` belongs to waiting and to arriving."""
    payloads = [bytes([number]) * 20_000 for number in range(20)]
    three[1].multicast_many(payloads, lane="bulk")
    arrival = services[1].arrive("sent", after=("bulk",), timeout=GUARD_S)
    waits = (lambda n=n: services[n].wait("sent", after=("bulk",), timeout=5) for n in (2, 3))
    releases = in_threads(*waits)
    assert releases == [arrival.wait()] * 2
    for node in (2, 3):
        got = [event.payload for event in three[node].take_ready() if isinstance(event, Message)]
        assert got == payloads
    # Not every caller has a type checker: the call itself refuses what the types do.
    with pytest.raises(UsageError, match="after is"):
        services[1].wait("sent", after=("fifo",))  # type: ignore[arg-type]  # on purpose


def test_an_arrival_that_is_asked_for_back_says_what_the_order_says(
    services: dict[int, Barriers],
) -> None:
    """All parties are told the same."""
    arrival = services[1].arrive("back", timeout=GUARD_S)
    arrival.take_back()
    with pytest.raises(BarrierBroken, match="cancelled by node 1"):
        arrival.wait()


def test_registered_parties_meet_and_leave(services: dict[int, Barriers]) -> None:
    """A phaser of threads on three nodes."""
    parties: dict[int, Party] = {
        node: services[node].register("step", policy="shrink", timeout=5) for node in (1, 2, 3)
    }
    assert parties[3].registration.parties == (1, 2, 3)
    until(lambda: parties[1].parties == (1, 2, 3))
    releases = in_threads(
        *(lambda n=n: parties[n].wait(payload=b"%d" % n, timeout=5) for n in parties)
    )
    assert releases[0].payloads == {1: b"1", 2: b"2", 3: b"3"}
    assert releases == [releases[0]] * 3
    early = parties[1].arrive(timeout=5)
    parties[2].arrive_and_deregister(payload=b"bye", timeout=5)
    parties[3].deregister(timeout=5)
    assert early.wait().payloads[2] == b"bye"
    assert [parties[node].registered for node in parties] == [True, False, False]
    with pytest.raises(UsageError, match="not registered"):
        parties[2].wait()
    with pytest.raises(BarrierMismatch, match="policy shrink"):
        services[2].register("step", timeout=5)


def test_a_registration_that_comes_with_the_interrupt_is_taken_back(
    services: dict[int, Barriers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop has registered the node, and nobody has got the party: nobody would arrive."""
    register = service.Barriers.register

    async def interrupted(self: service.Barriers, name: str, **others: Any) -> party.Party:
        registered = await register(self, name, **others)
        interrupt()
        return registered

    with monkeypatch.context() as patch:
        patch.setattr(service.Barriers, "register", interrupted)
        with pytest.raises(KeyboardInterrupt):
            services[1].register("x", timeout=5)
    other = services[2].register("x", timeout=5)
    until(lambda: other.parties == (2,))


def test_who_is_interrupted_while_it_enters_does_not_leave_the_others_waiting(
    three: dict[int, Cluster], services: dict[int, Barriers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has entered, and will not leave."""
    enter = double.Double.__aenter__

    async def interrupted(self: double.Double) -> Release:
        release = await enter(self)
        if asyncio.get_running_loop() is home:
            interrupt()
        return release

    def work() -> None:
        with services[2].double("job", parties=2, timeout=GUARD_S):
            pass

    home = three[1].ask(asyncio.get_running_loop)
    monkeypatch.setattr(double.Double, "__aenter__", interrupted)
    with in_thread(work) as other:
        with pytest.raises(KeyboardInterrupt), services[1].double("job", parties=2):
            pytest.fail("it is interrupted before it is in")
        with pytest.raises(BarrierBroken, match="node 1 has left by an exception: KeyboardInt"):
            other.result(GUARD_S)


def test_a_double_barrier_is_entered_and_left_together(services: dict[int, Barriers]) -> None:
    """Nobody goes on before all are done."""
    said: list[str] = []

    def work(barriers: Barriers) -> None:
        with barriers.double("job", timeout=5) as release:
            assert (release.name, len(release.parties)) == ("job", 3)
            said.append("in")
            barriers.wait("inside", timeout=5)
        said.append("out")

    in_threads(*(lambda it=it: work(it) for it in services.values()))
    assert said == ["in"] * 3 + ["out"] * 3
    # As above: the types know that a double barrier has no such policy, and so does the call.
    with pytest.raises(UsageError, match="another incarnation"):
        services[1].double("job", policy="wait_for_rejoin")  # type: ignore[arg-type]  # on purpose


def test_an_interrupt_in_the_body_breaks_the_leaving_for_the_others(
    services: dict[int, Barriers],
) -> None:
    """Ctrl-C in one thread does not let the others wait for their deadline."""
    in_the_body = threading.Event()

    def work(double: Double) -> None:
        with double:
            assert in_the_body.wait(GUARD_S)
            interrupt()

    def wait_for_it() -> None:
        in_the_body.set()
        until(lambda: False)

    with in_thread(lambda: work(services[2].double("job", parties=2, timeout=GUARD_S))) as other:
        with (
            pytest.raises(KeyboardInterrupt),
            services[1].double("job", parties=2, timeout=GUARD_S),
        ):
            wait_for_it()
        with pytest.raises(BarrierBroken, match="node 1 has left by an exception: KeyboardInt"):
            other.result(GUARD_S)


def test_a_barrier_tells_who_is_missing_and_who_comes_late(services: dict[int, Barriers]) -> None:
    """`explain` and `skew` come over from the loop."""
    arrivals = [services[node].arrive("x", timeout=5) for node in (1, 2)]
    until(lambda: len(services[1].explain("x").arrived) == 2)
    assert [absent.node for absent in services[1].explain("x").missing] == [3]
    release = services[3].wait("x", timeout=5)
    assert [arrival.wait() for arrival in arrivals] == [release] * 2
    assert services[1].skew()[3].arrivals == 1


def test_a_channel_is_published_on_and_read_by_threads(three: dict[int, Cluster]) -> None:
    """Everybody has the same sequence, whoever waited for the order and whoever did not."""
    logs = in_threads(*(lambda c=c: OrderedChannel(c, "log", timeout=5) for c in three.values()))
    first = logs[0].publish(b"1", safe=True, timeout=5)
    publication = logs[0].submit(iter([b"2", b"3"]), timeout=5)
    last = publication.ordered(timeout=5)
    assert publication.done
    assert first < last
    read: list[list[bytes]] = [[] for _ in logs]
    for log, payloads in zip(logs, read, strict=True):
        for entry in log:
            payloads.append(entry.payload)
            if entry.position == last:
                break
        assert log.position == last
        assert log.take_ready() == []
        assert log.stats()["items"] == 0
    assert read == [[b"1", b"2", b"3"]] * 3
    logs[1].publish_many([b"4", b"5"], timeout=5)
    until(lambda: logs[2].stats()["items"] > 0)
    batches = [item.payloads for item in logs[2].take_ready() if isinstance(item, Entries)]
    assert [payload for batch in batches for payload in batch] == [b"4", b"5"]
    logs[2].close()
    with pytest.raises(ClosedError):
        logs[2].next(timeout=5)
