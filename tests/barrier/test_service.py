"""The asyncio face: arguments, exceptions and cancelling, over cores that share one log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any, cast

import pytest

from phalanx.barrier import BarrierCore, Barriers, Release
from phalanx.barrier.messages import PAYLOAD_BYTES_MAX
from phalanx.transport.config import MS, ClusterConfig, NodeConfig, S
from phalanx.transport.errors import (
    BarrierBroken,
    BarrierError,
    BarrierMismatch,
    BarrierTimeout,
    NoQuorum,
    UsageError,
)
from phalanx.transport.events import (
    Lane,
    Member,
    PathStatus,
    Position,
    RailState,
    View,
    ViewId,
    ViewInstalled,
)
from phalanx.transport.layer_face import LayerFace
from phalanx.transport.layers import Layer, registered

from .model import entry

CONFIG = ClusterConfig(
    name="test",
    rails=(),
    nodes=(NodeConfig(name="alpha", id=1), NodeConfig(name="beta", id=2)),
)
VIEW = View(id=ViewId(1, 1), incarnations=(Member(1, 1), Member(2, 1)))
GUARD_S = 5
"""A test that waits longer than this hangs."""


class Hub:
    """Orders what the fake clusters publish, and gives it to all of them at once."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.positions = 0
        self.says_stable = True
        self.clusters = [FakeCluster(self, node) for node in (1, 2)]
        self.one, self.two = (Barriers(cluster) for cluster in self.clusters)
        self.view_installed(ViewInstalled(view=VIEW, joined=(1, 2), left={}))

    def view_installed(self, event: ViewInstalled) -> None:
        for cluster in self.clusters:
            if cluster.node_id in event.view.members:
                cluster.core.installed(event, now_ns=self.now_ns)
                cluster.tell()

    def pump(self) -> None:
        for cluster in self.clusters:
            cluster.core.wake(self.now_ns)
        while sum(map(self._order, self.clusters)):
            pass
        for cluster in self.clusters:
            cluster.tell()

    def _order(self, cluster: FakeCluster) -> bool:
        """Put what a node publishes in order; True if it was anything."""
        taken = cluster.core.take_entries({})
        for outgoing in taken:
            self.positions += 1
            sender = Member(cluster.node_id, 1)
            ordered = entry(sender, outgoing.payload, VIEW.id, self.positions)
            position = Position(*VIEW.id, self.positions)
            for other in self.clusters:
                other.core.ordered(ordered, now_ns=self.now_ns)
                if outgoing.safe and self.says_stable:
                    other.core.stable(position, now_ns=self.now_ns)
        return bool(taken)

    def pass_time(self, duration_ns: int) -> None:
        self.now_ns += duration_ns
        self.pump()


class FakeCluster:
    """What a `LayerFace` gives, and the cluster that has it."""

    def __init__(self, hub: Hub, node: int) -> None:
        self.config = CONFIG
        self.node_id = node
        self.primary = True
        self.detached = False
        self.core = BarrierCore(CONFIG, node)
        self.all_held = asyncio.Event()
        self.all_held.set()
        self.elsewhere = False
        self.waited_for: list[str] = []
        self._hub = hub
        self._listeners: list[Callable[[], None]] = []

    @property
    def layer_face(self) -> LayerFace:
        return cast(LayerFace, self)

    def check_caller(self) -> None:
        if self.elsewhere:
            raise UsageError("another event loop")

    def layer(self, name: str) -> Layer:
        return {"barrier": self.core}[name]

    def now_ns(self) -> int:
        return self._hub.now_ns

    def hurry(self) -> None:
        self.kick()

    def kick(self) -> None:
        asyncio.get_running_loop().call_soon(self._hub.pump)

    def unnumbered(self, *, bulk: bool) -> dict[Lane, int]:
        return {Lane.BULK: 0} if bulk else {}

    @property
    def paths(self) -> dict[int, dict[str, PathStatus]]:
        path = PathStatus(carrier="test", state=RailState.UP, rtt_us=100, primary=True, failovers=0)
        return {node: {"a": path} for node in (1, 2) if node != self.node_id}

    def add_layer_listener(self, callback: Callable[[], None]) -> None:
        self._listeners.append(callback)

    def unheld(self, multicasts: Collection[Lane]) -> list[str]:
        return [] if self.all_held.is_set() else ["directed", *(lane.name for lane in multicasts)]

    async def held(self, sends: list[str], timeout: float) -> None:
        self.waited_for += sends
        if timeout < 0.1:
            raise TimeoutError
        await self.all_held.wait()

    def tell(self) -> None:
        for listener in self._listeners:
            listener()


def scene(body: Callable[[Hub], Coroutine[Any, Any, None]]) -> None:
    """Run a scene with two nodes and a guard against hanging."""

    async def guarded() -> None:
        hub = Hub()
        async with asyncio.timeout(GUARD_S):
            await body(hub)

    asyncio.run(guarded())


async def turns(count: int = 5) -> None:
    """Let every task run until it waits."""
    for _ in range(count):
        await asyncio.sleep(0)


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


def test_registered_parties_meet_and_leave() -> None:
    """A phaser: who is waited for changes from one generation to the next."""

    async def body(hub: Hub) -> None:
        first = await hub.one.register("x", policy="shrink")
        assert first.registration.parties == (1,)
        second = await hub.two.register("x", policy="shrink")
        assert second.registration.parties == (1, 2) == first.parties
        one, two = await asyncio.gather(first.wait(payload=b"1"), second.wait())
        assert one == two
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
        await asyncio.sleep(0)
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
