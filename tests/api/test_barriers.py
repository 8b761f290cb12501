"""Every kind of barrier as a user's own test would see it, over real clusters in one process."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from phalanx.barrier import Barriers, Release
from phalanx.barrier.messages import PAYLOAD_BYTES_MAX
from phalanx.barrier.service import StrengthLike
from phalanx.transport import (
    BarrierBroken,
    BarrierMismatch,
    Cluster,
    Message,
    NoQuorum,
    RailState,
    UsageError,
)
from phalanx.transport.testing.memory import (
    MemoryCluster,
    MemoryNetwork,
    join_all,
    memory_cluster,
    memory_config,
)

from .arrivals import two_arrived

GUARD_S = 30.0


def scene(body: Callable[[MemoryCluster], Coroutine[Any, Any, None]], nodes: int = 3) -> None:
    """Run a scene over a fresh cluster, with a guard against hanging."""

    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S), memory_cluster(nodes) as cluster:
            await body(cluster)

    asyncio.run(guarded())


def all_of(memory: MemoryCluster) -> list[Barriers]:
    """The barriers of all nodes, in their order."""
    return [Barriers(cluster) for cluster in memory.clusters.values()]


async def wait_all(services: list[Barriers], name: str, **arguments: Any) -> list[Release]:
    """All of these meet."""
    return list(await asyncio.gather(*(it.wait(name, timeout=10, **arguments) for it in services)))


def test_every_member_says_how_late_the_others_close_their_epochs() -> None:
    """Everybody waits for the slowest: an operator has to see who that is."""

    async def body(memory: MemoryCluster) -> None:
        for number in range(5):
            await wait_all(all_of(memory), f"stage {number}")
        for cluster in memory.clusters.values():
            late = cluster.lateness
            assert list(late) == [1, 2, 3]
            assert all(it.epochs >= 5 and it.worst_ns >= it.mean_ns >= 0 for it in late.values())
            assert all(it.waited_ns < GUARD_S * 1e9 for it in late.values())

    scene(body)


@pytest.mark.parametrize("size", [1, 1000, PAYLOAD_BYTES_MAX])
def test_payloads_of_any_size_reach_all_parties(size: int) -> None:
    """Large ones are cut into pieces on the way, as messages are."""

    async def body(memory: MemoryCluster) -> None:
        services = all_of(memory)
        brought = {n: bytes([n]) * size for n in memory.clusters}
        waits = (
            service.wait("gather", timeout=10, payload=brought[node])
            for node, service in zip(memory.clusters, services, strict=True)
        )
        for release in await asyncio.gather(*waits):
            assert release.payloads == brought

    scene(body)


def test_a_safe_release_has_a_token_that_grows_and_what_was_sent_before_is_there() -> None:
    """Strength `safe` promises all that `agreed` does, and more."""

    async def body(memory: MemoryCluster) -> None:
        services = all_of(memory)
        tokens: list[Any] = []
        for turn in range(5):
            for cluster in memory.clusters.values():
                await cluster.multicast(b"%d" % turn)
            releases = await wait_all(services, "safe", strength="safe")
            for cluster in memory.clusters.values():
                sent = [e.payload for e in cluster.take_ready() if isinstance(e, Message)]
                assert sent == [b"%d" % turn] * 3
            assert len({str(release.token) for release in releases}) == 1
            tokens.append(releases[0].token)
        assert tokens == sorted(tokens)
        assert len(set(tokens)) == 5

    scene(body)


def test_bulk_is_in_the_cut_where_its_sender_asks_for_it() -> None:
    """Large messages on their own lane, and everybody has them when the barrier opens."""

    async def body(memory: MemoryCluster) -> None:
        services = all_of(memory)
        await memory.clusters[1].multicast_many([bytes(50_000)] * 40, lane="bulk")
        waits = (
            it.wait("loaded", timeout=10, after=("bulk",) if it is services[0] else ())
            for it in services
        )
        await asyncio.gather(*waits)
        for cluster in memory.clusters.values():
            sizes = [len(e.payload) for e in cluster.take_ready() if isinstance(e, Message)]
            assert sizes == [50_000] * 40

    scene(body)


def test_a_barrier_that_shrinks_releases_those_who_are_left() -> None:
    """The view that leaves out the missing one decides it."""

    async def body(memory: MemoryCluster) -> None:
        waits = asyncio.gather(
            *(
                Barriers(memory.clusters[node]).wait("stage", timeout=10, policy="shrink")
                for node in (1, 2)
            )
        )
        await two_arrived(Barriers(memory.clusters[3]), "stage")
        await memory.clusters[3].leave()
        first, second = await waits
        assert first == second
        assert [party.node for party in first.parties] == [1, 2]
        assert first.position.index == 0

    scene(body)


def test_a_party_that_restarts_is_waited_for_and_counts_by_its_new_arrival() -> None:
    """Killed and restarted within one generation, with the policy that waits for it."""

    async def body() -> None:
        with tempfile.TemporaryDirectory() as folder:
            network, config = MemoryNetwork(), replace(memory_config(3), state_dir=folder)
            clusters = await join_all(
                {n: Cluster.join(config, node=n, drivers=network) for n in (1, 2, 3)}
            )
            options: dict[str, Any] = {"timeout": 10, "policy": "wait_for_rejoin"}
            await Barriers(clusters[3]).arrive("stage", **options)
            first = Barriers(clusters[1])
            waits = [asyncio.create_task(first.wait("stage", **options))]
            await two_arrived(first, "stage")
            await clusters[3].leave()
            clusters[3] = await Cluster.join(config, node=3, drivers=network)
            waits.append(asyncio.create_task(Barriers(clusters[2]).wait("stage", **options)))
            await two_arrived(first, "stage")
            assert not any(wait.done() for wait in waits), "its old arrival is void"
            release = await Barriers(clusters[3]).wait("stage", **options)
            assert [await wait for wait in waits] == [release] * 2
            assert release.parties[2].incarnation > 1
            for cluster in clusters.values():
                await cluster.leave()

    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S):
            await body()

    asyncio.run(guarded())


def test_registered_parties_are_carried_into_the_next_view() -> None:
    """A worker registers late, another one leaves for good, and the view changes between."""

    async def body(memory: MemoryCluster) -> None:
        first, second, third = all_of(memory)
        one = await first.register("work", timeout=5)
        two = await second.register("work", timeout=5)
        releases = await asyncio.gather(one.wait(timeout=5), two.wait(timeout=5))
        assert [party.node for party in releases[0].parties] == [1, 2]
        three = await third.register("work", timeout=5)
        assert three.registration.parties == (1, 2, 3)
        last = await one.arrive(timeout=5)
        await asyncio.gather(three.arrive_and_deregister(payload=b"done", timeout=5), two.wait())
        assert (await last.wait()).payloads == {3: b"done"}
        await memory.clusters[3].leave()
        releases = await asyncio.gather(one.wait(timeout=5), two.wait(timeout=5))
        assert [party.node for party in releases[1].parties] == [1, 2]

    scene(body)


@pytest.mark.parametrize("strength", ["arrived", "agreed", "safe"])
def test_who_has_left_is_told_so_at_a_barrier(strength: StrengthLike) -> None:
    """Whatever would have to be held before it arrives."""

    async def body(memory: MemoryCluster) -> None:
        barriers = Barriers(memory.clusters[1])
        await memory.clusters[1].leave()
        for call in (barriers.wait, barriers.arrive):
            words: Any = "words"
            with pytest.raises(UsageError, match="a payload is bytes"):
                await call("stage", strength=strength, payload=words)
            with pytest.raises(NoQuorum):
                await call("stage", strength=strength)

    scene(body)


def test_a_double_barrier_among_three() -> None:
    """One of them fails in the second use, and the others are told in its words."""

    async def body(memory: MemoryCluster) -> None:
        inside: set[int] = set()

        async def work(node: int, *, fails: bool) -> None:
            async with Barriers(memory.clusters[node]).double("job", parties=3, timeout=10):
                inside.add(node)
                if fails and node == 2:
                    raise RuntimeError("disk full")
            assert inside == {1, 2, 3}

        await asyncio.gather(*(work(node, fails=False) for node in (1, 2, 3)))
        outcomes = await asyncio.gather(
            *(work(node, fails=True) for node in (1, 2, 3)), return_exceptions=True
        )
        assert isinstance(outcomes[1], RuntimeError)
        for outcome in (outcomes[0], outcomes[2]):
            assert isinstance(outcome, BarrierBroken)
            assert outcome.reason == "node 2 has left by an exception: RuntimeError: disk full"

    scene(body)


def test_parties_that_disagree_are_both_told_within_a_moment() -> None:
    """Not only the second: the first would wait to its deadline."""

    async def body(memory: MemoryCluster) -> None:
        first, second, _ = all_of(memory)
        outcomes = await asyncio.gather(
            first.wait("x", parties=2, timeout=20),
            second.wait("x", parties=3, timeout=20),
            return_exceptions=True,
        )
        one, two = outcomes
        assert isinstance(one, BarrierMismatch)
        assert isinstance(two, BarrierMismatch)
        assert (one.ours, one.theirs) == (two.theirs, two.ours)

    scene(body)


def test_a_barrier_says_over_which_rails_the_missing_can_be_reached() -> None:
    """One rail of two is cut: whoever asks sees that, and that it is not the reason."""

    async def body(memory: MemoryCluster) -> None:
        first, second, _ = all_of(memory)
        memory.network.cut(3, "a")
        waits = [await it.arrive("stage") for it in (first, second)]
        await two_arrived(first, "stage")
        told = first.explain("stage")
        for _ in range(1000):
            if told.missing[0].rails["a"].state is not RailState.UP:
                break
            await asyncio.sleep(0.01)  # until it has been noticed that heartbeats are missing
            told = first.explain("stage")
        assert sorted(party.name for party in told.arrived) == ["n1", "n2"]
        (absent,) = told.missing
        assert (absent.name, absent.why) == ("n3", "not arrived")
        assert absent.rails["a"].state is not RailState.UP
        assert absent.rails["b"].state is RailState.UP
        assert 0 < (absent.since_s or 0) < 5
        assert "rail b: up" in str(told)
        waits[0].cancel()
        with pytest.raises(BarrierBroken):
            await waits[1].wait()

    scene(body)


def test_a_thousand_barriers_at_once() -> None:
    """Names are cheap: 1,000 of them are open together, each with its own generation."""

    async def body(memory: MemoryCluster) -> None:
        services = all_of(memory)
        names = [f"name {number}" for number in range(1000)]
        arrivals = [
            [await service.arrive(name, timeout=25) for name in names] for service in services
        ]
        releases = [
            await asyncio.gather(*(arrival.wait() for arrival in of_one)) for of_one in arrivals
        ]
        assert releases[0] == releases[1] == releases[2]
        assert len({release.generation.index for release in releases[0]}) == 1000

    scene(body)


def test_a_name_is_used_again_at_once_in_a_loop() -> None:
    """Every round is a generation of its own, in the same order at all parties."""

    async def body(memory: MemoryCluster) -> None:
        async def rounds(service: Barriers) -> list[Release]:
            return [await service.wait("x", timeout=10) for _ in range(50)]

        all_rounds = await asyncio.gather(*map(rounds, all_of(memory)))
        assert all_rounds[0] == all_rounds[1] == all_rounds[2]
        generations = [release.generation for release in all_rounds[0]]
        assert generations == sorted(set(generations))
        skew = Barriers(memory.clusters[1]).skew()
        assert {node: one.arrivals for node, one in skew.items()} == {1: 50, 2: 50, 3: 50}

    scene(body)
