"""Who meets over and over: registration, double barriers, what explains and counts them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from phalanx.barrier import Barriers
from phalanx.transport.config import S
from phalanx.transport.errors import (
    BarrierBroken,
    BarrierMismatch,
    UsageError,
)
from phalanx.transport.events import (
    Member,
    RailState,
)

from .hub import Hub, scene, turns


def test_registered_parties_meet_and_leave() -> None:
    """A phaser: who is waited for changes from one generation to the next."""

    async def body(hub: Hub) -> None:
        first = await hub.one.register("x", policy="shrink")
        assert first.registration.parties == (1,)
        second = await hub.two.register("x", policy="shrink")
        assert second.registration.parties == (1, 2) == first.parties
        one, two = await asyncio.gather(first.wait(payload=b"1"), second.wait())
        assert one == two
        assert first.registration.position < second.registration.position < one.generation
        assert one.payloads == {1: b"1"}
        arrival = await first.arrive()
        await second.arrive_and_deregister(payload=b"bye")
        assert (await arrival.wait()).payloads == {2: b"bye"}
        assert first.registered
        assert not second.registered
        with pytest.raises(UsageError, match="not registered"):
            await second.wait()
        assert (await first.wait()).parties == (Member(1, 1),)
        await first.deregister()
        assert hub.two.open() == []

    scene(body)


def test_a_registration_that_others_make_differently_is_refused() -> None:
    """A registrar with another policy would be told other outcomes than the others."""

    async def body(hub: Hub) -> None:
        await hub.one.register("x")
        with pytest.raises(BarrierMismatch, match="registered parties, strength agreed;"):
            await hub.two.register("x", policy="shrink")
        with pytest.raises(UsageError, match="already"):
            await hub.one.register("x")

    scene(body)


def test_a_registration_whose_task_is_cancelled_is_taken_back() -> None:
    """Nobody holds the party, so nobody would ever arrive."""

    async def body(hub: Hub) -> None:
        task = asyncio.create_task(hub.one.register("x"))
        await turns(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns()
        party = await hub.two.register("x")
        assert party.parties == (2,)

    scene(body)


def test_a_double_barrier_is_entered_and_left_together() -> None:
    """Nobody begins before all are there, and nobody goes on before all are done."""

    async def body(hub: Hub) -> None:
        said: list[str] = []

        async def work(barriers: Barriers, name: str) -> None:
            async with barriers.double("job", parties=2, timeout=5) as release:
                assert release.name == "job"
                said.append(f"{name} is in")
                await turns()
                said.append(f"{name} is done")
            said.append(f"{name} is out")

        await asyncio.gather(work(hub.one, "a"), work(hub.two, "b"))
        assert [line.split(maxsplit=1)[1] for line in said] == [
            *["is in"] * 2,
            *["is done"] * 2,
            *["is out"] * 2,
        ]

    scene(body)


def test_an_exception_in_the_body_breaks_the_leaving_for_the_others() -> None:
    """It is raised here at once, and the others are told why they must not go on."""

    async def body(hub: Hub) -> None:
        async def fail() -> None:
            async with hub.one.double("job"):
                raise ValueError("no disk\n left")

        async def work() -> None:
            async with hub.two.double("job"):
                await turns()

        failed, broken = await asyncio.gather(fail(), work(), return_exceptions=True)
        assert isinstance(failed, ValueError)
        assert isinstance(broken, BarrierBroken)
        assert broken.reason == "node 1 has left by an exception: ValueError: no disk  left"
        assert broken.name == "job (leave)"
        async with asyncio.TaskGroup() as group:
            for barriers in (hub.one, hub.two):
                group.create_task(_enter_and_leave(barriers))

    scene(body)


def test_who_is_cancelled_while_it_enters_does_not_leave_the_others_waiting() -> None:
    """Whatever the moment, also the very one in which all have entered."""

    async def body(hub: Hub) -> None:
        reasons: set[str] = set()
        for moment in range(12):
            other = asyncio.create_task(_enter_and_leave(hub.two))
            task = asyncio.create_task(_enter_and_leave(hub.one))
            await turns(moment)
            task.cancel()
            await turns(50)
            assert other.done() or str(hub.two.explain("job")).startswith("barrier 'job (enter)'")
            if not other.done():  # The one was cancelled before it had arrived.
                other.cancel()
                await turns(50)
            results = await asyncio.gather(task, other, return_exceptions=True)
            reasons |= {it.reason for it in results if isinstance(it, BarrierBroken)}
        assert "node 1 has left by an exception: CancelledError" in reasons

    scene(body)


async def _enter_and_leave(barriers: Barriers) -> None:
    async with barriers.double("job"):
        pass


@pytest.mark.parametrize("policy", ["wait_for_rejoin", "?"])
def test_a_double_barrier_waits_for_no_rejoin(policy: Any) -> None:
    """The next incarnation has not entered, so it cannot leave."""

    async def body(hub: Hub) -> None:
        with pytest.raises(UsageError, match="another incarnation"):
            hub.one.double("job", policy=policy)

    scene(body)


def test_a_barrier_explains_who_is_missing_since_when_and_how_it_is_reached() -> None:
    """The first question of whoever looks at a program that stands still."""

    async def body(hub: Hub) -> None:
        assert str(hub.one.explain("x")) == "barrier 'x' is not in use"
        await hub.one.arrive("x", policy="shrink")
        await turns()
        hub.pass_time(2 * S)
        told = hub.one.explain("x")
        assert [(party.node, party.ago_s) for party in told.arrived] == [(1, 2.0)]
        (absent,) = told.missing
        assert (absent.name, absent.why, absent.since_s) == ("beta", "not arrived", 2.0)
        assert absent.rails["a"].state is RailState.UP
        assert str(told).splitlines() == [
            "barrier 'x' (all members, strength agreed, policy shrink), generation 1.1.1",
            "  alpha (1) arrived 2.000 s ago",
            "  beta (2) is missing, for 2.000 s now: not arrived",
            "    rail a: up, 100 us, primary",
        ]

    scene(body)


def test_an_explanation_of_a_double_barrier_says_which_of_the_two_it_is() -> None:
    """Its user gave one name."""

    async def body(hub: Hub) -> None:
        task = asyncio.create_task(_enter_and_leave(hub.one))
        await turns()
        assert hub.one.explain("job").name == "job (enter)"
        async with hub.two.double("job"):
            await turns()
            assert hub.two.explain("job").name == "job (leave)"
            assert [absent.node for absent in hub.two.explain("job").missing] == [2]
        await task

    scene(body)


def test_what_nobody_has_ordered_yet_is_explained_as_well() -> None:
    """The own arrival is on its way: that is why nothing happens."""

    async def body(hub: Hub) -> None:
        hub.clusters[0].kick = lambda: None  # type: ignore[method-assign]  # nothing leaves
        await hub.one.arrive("x", parties=["alpha", "beta"])
        told = hub.one.explain("x")
        assert told.generation is None
        assert {absent.node: absent.why for absent in told.missing} == {
            1: "its arrival is not ordered yet",
            2: "not arrived",
        }

    scene(body)


def test_the_skew_says_who_comes_late() -> None:
    """By node, over all generations that were released."""

    async def body(hub: Hub) -> None:
        for delay_ns in (1 * S, 3 * S):
            arrival = await hub.one.arrive("x")
            await turns()
            hub.pass_time(delay_ns)
            await hub.two.wait("x")
            await arrival.wait()
        skew = hub.two.skew()
        assert (skew[1].arrivals, skew[1].mean_ns, skew[1].worst_ns) == (2, 0, 0)
        assert (skew[2].arrivals, skew[2].mean_ns, skew[2].worst_ns) == (2, 2 * S, 3 * S)

    scene(body)


def test_several_may_wait_for_one_arrival_and_one_of_them_may_give_up() -> None:
    """Cancelling any of them takes the arrival back, and the others are told so."""

    async def body(hub: Hub) -> None:
        arrival = await hub.one.arrive("x")
        waits = [asyncio.create_task(arrival.wait()) for _ in range(2)]
        await turns()
        waits[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits[0]
        with pytest.raises(BarrierBroken, match="cancelled by node 1"):
            await waits[1]

    scene(body)
