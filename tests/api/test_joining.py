"""What joining says while it waits, and when it is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from phalanx.transport import (
    Cluster,
    ClusterConfig,
    JoinTimeout,
    PeerRefused,
    PhalanxError,
    RecordUnusable,
    wire,
)
from phalanx.transport.record_file import RecordFile
from phalanx.transport.testing.memory import MemoryNetwork, join_all, memory_config
from phalanx.transport.testing.simulation import Simulation, simulated_config

GUARD_S = 20.0


def config_in(folder: Path, nodes: int = 3) -> ClusterConfig:
    """Nodes n1, n2, ... whose records are kept in that folder."""
    return replace(memory_config(nodes), state_dir=str(folder))


@dataclass
class Told:
    """What came of joining, by node."""

    waiting: dict[int, list[str]]
    errors: dict[int, Exception]


def join(configs: Mapping[int, ClusterConfig], *, timeout: float, readmit: bool = False) -> Told:
    """Let these nodes join over one network in memory, each until it has joined or given up."""

    async def one(told: Told, network: MemoryNetwork, node: int, done: asyncio.Barrier) -> None:
        joining = Cluster.join(
            configs[node],
            node=node,
            timeout=timeout,
            readmit=readmit,
            drivers=network,
            on_waiting=told.waiting[node].append,
        )
        try:
            async with joining:
                await done.wait()
        except PhalanxError as error:
            told.errors[node] = error
            await done.wait()

    async def play() -> Told:
        told, network = Told({node: [] for node in configs}, {}), MemoryNetwork()
        done = asyncio.Barrier(len(configs))
        async with asyncio.timeout(GUARD_S):
            await asyncio.gather(*(one(told, network, node, done) for node in configs))
        return told

    return asyncio.run(play())


def test_nobody_is_said_to_be_missing_when_all_are_there(tmp_path: Path) -> None:
    """Between the last arrival and the first view a node waits for an agreement, not for a node."""
    told = join(dict.fromkeys((1, 2, 3), config_in(tmp_path)), timeout=10)
    assert told.errors == {}
    for words in told.waiting.values():
        assert words[-1] == "all reached; agreeing on the first view"
        assert not any("nobody" in each for each in words)


def test_two_configurations_are_told_apart_by_the_key(tmp_path: Path) -> None:
    """What differs is what the operator needs to know."""
    config = config_in(tmp_path)
    two = replace(config, nodes=(config.nodes[0], replace(config.nodes[1], votes=2)))
    one = replace(config, nodes=config.nodes[:2])
    errors = join({1: one, 2: two}, timeout=1.0).errors
    assert [type(error) for error in errors.values()] == [JoinTimeout, JoinTimeout]
    assert "refused us: its configuration differs (node.2.votes)" in " ".join(
        map(str, errors.values())
    )


@pytest.mark.parametrize(("node", "who"), [(2, "it"), (0, "a caller that did not say who it is")])
def test_whoever_refuses_before_it_said_its_name_is_no_node(node: int, who: str) -> None:
    """No node has the id 0, so "it" would be nobody."""
    simulation = Simulation(simulated_config(2))
    simulation.nodes[1].start()
    endpoint = simulation.nodes[1].endpoint
    endpoint.peers.refused_by(node, wire.Refuse(reason="its votes differ", key_hashes={}))
    refused = endpoint.outputs.stream[-1]
    assert isinstance(refused, PeerRefused)
    assert refused.peer == node
    assert refused.reason.startswith(f"{who} refused us: its votes differ")


def stored(folder: Path, content: bytes) -> Path:
    """Put this into the record of node n1; returns its path."""
    record = RecordFile(folder, "n1", cluster="memory")
    record.lock()
    record.store(content)
    record.close()
    return record.path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xc1", "cannot be decoded (another version of phalanx wrote it, or it is damaged)"),
        (
            wire.encode_record(wire.Record(cluster="memory", node=7, incarnation=1)),
            'belongs to cluster "memory", node 7, and this is cluster "memory", node 1',
        ),
    ],
)
def test_a_useless_record_says_why_and_what_to_do(
    tmp_path: Path, content: bytes, words: str
) -> None:
    """An older build and a changed id look alike from inside; the remedies are not the same."""
    path = stored(tmp_path, content)
    one = {1: config_in(tmp_path, nodes=1)}
    error = join(one, timeout=5).errors[1]
    assert isinstance(error, RecordUnusable)
    assert str(error).startswith(f"{path} {words}")
    assert "--readmit (in the API readmit=True)" in str(error)
    assert join(one, timeout=5, readmit=True).errors == {}


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (True, "another start 2 of this node: "),
        (False, "start 2 of this node, and this is only start 1: "),
    ],
)
def test_a_lost_or_old_record_is_told_from_the_starts_that_the_peers_remember(
    tmp_path: Path, kept: bool, words: str
) -> None:
    """An old copy counts to the same number once more: that is no "2, and this is only 2"."""

    async def run() -> RecordUnusable:
        config, network = config_in(tmp_path), MemoryNetwork()
        clusters = await join_all(
            {n: Cluster.join(config, node=n, drivers=network) for n in (1, 2, 3)}
        )
        record = tmp_path / "n3" / "record"
        copy = record.read_bytes()
        await clusters[3].leave()
        clusters[3] = await Cluster.join(config, node=3, drivers=network, timeout=GUARD_S)
        await clusters[3].leave()
        record.unlink()
        if kept:
            record.write_bytes(copy)
        with pytest.raises(RecordUnusable) as caught:
            await Cluster.join(config, node=3, drivers=network, timeout=GUARD_S)
        for node in (1, 2):
            await clusters[node].leave()
        return caught.value

    error = asyncio.run(run())
    assert f"remembers {words}the record is lost or an old copy" in str(error)
