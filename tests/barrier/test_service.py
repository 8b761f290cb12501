"""The asyncio face: arguments, exceptions and cancelling, over cores that share one log."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from phalanx.barrier import BarrierCore, Barriers, Release
from phalanx.barrier.messages import PAYLOAD_BYTES_MAX
from phalanx.transport.config import MS, S
from phalanx.transport.errors import (
    BarrierBroken,
    BarrierError,
    BarrierMismatch,
    BarrierTimeout,
    NoQuorum,
    UsageError,
)
from phalanx.transport.events import (
    Member,
    Position,
    View,
    ViewId,
    ViewInstalled,
)
from phalanx.transport.layers import Layer, registered

from .hub import CONFIG, VIEW, FakeCluster, Hub, scene, turns


def test_importing_barriers_gives_every_later_cluster_the_layer() -> None:
    """The transport never imports barriers: they announce themselves."""
    assert registered()["barrier"] is BarrierCore


def test_barriers_of_one_cluster_are_one_service() -> None:
    """Two faces would take each other's outcomes."""

    async def body(hub: Hub) -> None:
        assert Barriers(hub.clusters[0]) is hub.one
        assert hub.one is not hub.two

    scene(body)


def test_a_cluster_without_the_layer_is_refused() -> None:
    """It was joined before the import; the message says how to mend it."""

    class Bare(FakeCluster):
        def layer(self, name: str) -> Layer:
            raise UsageError(f"joined without {name!r}: import it before joining")

    async def body(hub: Hub) -> None:
        with pytest.raises(UsageError, match="before joining"):
            Barriers(Bare(hub, 1))

    scene(body)


@pytest.mark.parametrize("parties", [None, 2, [1, "beta"], {"alpha", "beta"}])
def test_all_parties_return_the_same_release(parties: Any) -> None:
    """The three ways to say who meets."""

    async def body(hub: Hub) -> None:
        first, second = await asyncio.gather(
            hub.one.wait("x", parties=parties), hub.two.wait("x", parties=parties)
        )
        assert first == second
        assert first.parties == (Member(1, 1), Member(2, 1))

    scene(body)


def test_the_two_phases_may_be_split() -> None:
    """Work between arriving and waiting costs no waiting."""

    async def body(hub: Hub) -> None:
        arrival = await hub.one.arrive("x")
        await turns()
        assert not arrival.done
        assert hub.one.missing("x") == {2: "not arrived"}
        assert [status.name for status in hub.two.open()] == ["x"]
        release = await hub.two.wait("x")
        assert arrival.done
        assert await arrival.wait() == await arrival.wait() == release

    scene(body)


def test_a_timeout_names_the_missing_and_is_a_timeout_error() -> None:
    """`except TimeoutError` must catch it, and it must say who did not come."""

    async def body(hub: Hub) -> None:
        arrival = await hub.one.arrive("x", timeout=0.5)
        await turns()
        hub.pass_time(S // 2)
        with pytest.raises(BarrierTimeout, match=r"0\.5 s; missing: node 2") as caught:
            await arrival.wait()
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.missing == {2: "not arrived"}

    scene(body)


def test_without_a_timeout_the_default_of_the_profile_holds() -> None:
    """Every await has a deadline."""

    async def body(hub: Hub) -> None:
        arrival = await hub.one.arrive("x")
        await turns()
        hub.pass_time(CONFIG.timing.call_timeout_ns)
        with pytest.raises(BarrierTimeout):
            await arrival.wait()

    scene(body)


def test_a_departure_breaks_the_wait() -> None:
    """A typed error names who is missing and why."""

    async def body(hub: Hub) -> None:
        arrival = await hub.one.arrive("x")
        await turns()
        view = View(id=ViewId(1, 2), incarnations=(Member(1, 1),))
        hub.view_installed(ViewInstalled(view=view, joined=(), left={2: "end of file"}))
        with pytest.raises(BarrierBroken, match="node 2 left the view: end of file"):
            await arrival.wait()

    scene(body)


def test_a_detached_node_raises_no_quorum() -> None:
    """New waits have no effect; the outcome of open ones is unknown."""

    async def body(hub: Hub) -> None:
        arrival = await hub.one.arrive("x")
        await turns()
        cluster = hub.clusters[0]
        cluster.primary = False
        cluster.detached = True
        cluster.core.detached("lease lost", now_ns=0)
        cluster.tell()
        with pytest.raises(NoQuorum, match="lease lost") as open_one:
            await arrival.wait()
        with pytest.raises(NoQuorum) as new_one:
            await hub.one.wait("y")
        assert (open_one.value.outcome, new_one.value.outcome) == ("unknown", "none")

    scene(body)


def test_both_sides_of_a_disagreement_are_told_what_the_other_uses() -> None:
    """The mistake is in the program of one of the two, and both must hear of it at once."""

    async def body(hub: Hub) -> None:
        first = await hub.one.arrive("x", parties=2)
        await turns()
        with pytest.raises(UsageError, match="2 parties, strength agreed; this call uses all"):
            await hub.two.wait("x")
        with pytest.raises(BarrierMismatch, match=r"all members.*this call uses 2 part") as caught:
            await first.wait()
        assert isinstance(caught.value, BarrierError)
        assert caught.value.ours == "2 parties, strength agreed"
        assert caught.value.theirs == "all members, strength agreed"
        assert caught.value.generation is not None

    scene(body)


@pytest.mark.parametrize(
    "arguments",
    [
        {"parties": 0},
        {"parties": True},
        {"parties": "alpha"},
        {"parties": ["gamma"]},
        {"parties": [2]},
        {"parties": []},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"strength": "strong"},
        {"policy": "patient"},
        {"after": "bulk"},
        {"after": ["fifo"]},
        {"payload": "text"},
        {"payload": bytes(PAYLOAD_BYTES_MAX + 1)},
    ],
)
def test_bad_arguments_raise_usage_errors(arguments: dict[str, Any]) -> None:
    """At once, and nobody else is told."""

    async def body(hub: Hub) -> None:
        with pytest.raises(UsageError):
            await hub.one.wait("x", **arguments)
        assert hub.two.open() == []

    scene(body)


def test_a_cancelled_wait_may_be_tried_again_at_once() -> None:
    """`asyncio.timeout` around a wait in a loop is a usual pattern."""

    async def body(hub: Hub) -> None:
        task = asyncio.create_task(hub.one.wait("x"))
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        first, second = await asyncio.gather(hub.one.wait("x"), hub.two.wait("x"))
        assert isinstance(first, Release)
        assert first == second

    scene(body)


def test_cancelling_breaks_the_generation_for_the_others() -> None:
    """They would wait for somebody who has gone away."""

    async def body(hub: Hub) -> None:
        mine = await hub.one.arrive("x", parties=[1, 2], timeout=1)
        await turns()
        mine.cancel()
        theirs = await hub.two.arrive("x", parties=[1, 2])
        await turns()
        assert not theirs.done, "it came after the cancel: a new generation"
        again = await hub.one.wait("x", parties=[1, 2])
        assert again == await theirs.wait()
        with pytest.raises(BarrierBroken, match="cancelled by node 1"):
            await mine.wait()

    scene(body)


def test_an_arrival_that_is_taken_back_has_the_outcome_of_the_order() -> None:
    """Unlike `cancel`, whose caller does not hear of a release that came first."""

    async def body(hub: Hub) -> None:
        arrival = await hub.one.arrive("x")
        await turns()
        arrival.take_back()
        assert not arrival.done
        with pytest.raises(BarrierBroken, match="cancelled by node 1") as broken:
            await arrival.wait()
        assert broken.value.missing == {2: "not arrived"}
        arrival.take_back()  # harmless when it is over

    scene(body)


def test_an_agreed_arrival_waits_for_directed_messages() -> None:
    """What was sent to one node before must be there when the barrier is released."""

    async def body(hub: Hub) -> None:
        held = hub.clusters[0].all_held
        held.clear()
        task = asyncio.create_task(hub.one.wait("x"))
        other = await hub.two.arrive("x")
        await turns()
        assert hub.two.missing("x") == {1: "not arrived"}
        held.set()
        assert await task == await other.wait()
        held.clear()
        first, second = await asyncio.gather(
            hub.one.wait("y", strength="arrived"), hub.two.wait("y", strength="arrived")
        )
        assert first == second

    scene(body)


def test_directed_messages_that_stay_unacknowledged_time_out_by_name() -> None:
    """The one who is late is this node itself."""

    async def body(hub: Hub) -> None:
        hub.clusters[0].all_held.clear()
        with pytest.raises(BarrierTimeout) as caught:
            await hub.one.wait("x", timeout=50 * MS / S)
        assert caught.value.missing == {1: "not all that it sent before is acknowledged"}

    scene(body)


@pytest.mark.parametrize("name", [5, None, b"x", ["x"]])
def test_a_name_that_is_no_str_is_the_callers_mistake(name: Any) -> None:
    """Whoever catches the errors of this library catches this one."""

    async def body(hub: Hub) -> None:
        with pytest.raises(UsageError, match="a barrier's name is a str"):
            await hub.one.wait(name, timeout=1)

    scene(body)


@pytest.mark.parametrize("timeout", ["1", [1], float("nan"), -1])
def test_a_timeout_that_is_no_time_is_the_callers_mistake(timeout: Any) -> None:
    """Refused before anything is published."""

    async def body(hub: Hub) -> None:
        with pytest.raises(UsageError, match="a timeout is 0 or more seconds"):
            await hub.one.wait("x", timeout=timeout)
        assert hub.one.open() == []

    scene(body)


def test_a_call_from_elsewhere_is_refused_before_anything_is_published() -> None:
    """The outcome is given in the cluster's own event loop and would wake nobody in another."""

    async def body(hub: Hub) -> None:
        arrival = await hub.one.arrive("before", timeout=1)
        hub.clusters[0].elsewhere = True
        for strength in ("arrived", "agreed"):
            with pytest.raises(UsageError, match="another event loop"):
                await hub.one.wait("x", timeout=1, strength=strength)
        with pytest.raises(UsageError, match="another event loop"):
            await arrival.wait()
        with pytest.raises(UsageError, match="another event loop"):
            arrival.cancel()
        hub.pump()
        assert [status.name for status in hub.two.open()] == ["before"]

    scene(body)


def test_all_parties_are_given_all_payloads() -> None:
    """An allgather, and a release of its own for each use of the name."""

    async def body(hub: Hub) -> None:
        first, second = await asyncio.gather(
            hub.one.wait("x", payload=b"one"), hub.two.wait("x", payload=b"two")
        )
        assert first.payloads == second.payloads == {1: b"one", 2: b"two"}
        assert first.token is None

    scene(body)


def test_a_safe_wait_returns_when_all_hold_it_and_waits_for_multicasts_before() -> None:
    """What was multicast before must be with everybody, or a release could not bind them."""

    async def body(hub: Hub) -> None:
        hub.says_stable = False
        cluster = hub.clusters[0]
        cluster.all_held.clear()
        task = asyncio.create_task(hub.one.wait("x", strength="safe"))
        other = await hub.two.arrive("x", strength="safe")
        await turns()
        assert cluster.waited_for == ["directed", "FIFO"]
        cluster.all_held.set()
        await turns()
        assert not other.done
        for each in hub.clusters:
            each.core.stable(Position(*VIEW.id, hub.positions), now_ns=0)
            each.tell()
        release = await task
        assert release == await other.wait()
        assert release.token == release.position

    scene(body)
