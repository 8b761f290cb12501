"""An operator's `force` over real records: a majority founds the cluster anew, one alone waits."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from phalanx.transport import (
    Cluster,
    ClusterConfig,
    JoinTimeout,
    PhalanxError,
    UsageError,
    View,
    ViewId,
    ViewInstalled,
    wire,
)
from phalanx.transport.record_file import RecordFile
from phalanx.transport.testing.memory import MemoryNetwork, memory_config

GUARD_S = 30.0


@dataclass
class Told:
    """What came of joining, by node."""

    views: dict[int, View] = field(default_factory=dict[int, View])
    incarnations: dict[int, int] = field(default_factory=dict[int, int])
    errors: dict[int, PhalanxError] = field(default_factory=dict[int, PhalanxError])


@pytest.fixture
def config(tmp_path: Path) -> ClusterConfig:
    """Three nodes whose records are kept in the test's folder."""
    return replace(memory_config(3), state_dir=str(tmp_path))


def play(
    config: ClusterConfig,
    nodes: Collection[int],
    *,
    force: Collection[int] = (),
    readmit: Collection[int] = (),
    timeout: float = 10,
    members: int = 0,
) -> Told:
    """Let these nodes join over a new network, until all are in one view or have given up."""
    told = Told()

    async def one(network: MemoryNetwork, node: int, done: asyncio.Barrier) -> None:
        joining = Cluster.join(
            config,
            node=node,
            timeout=timeout,
            force=node in force,
            readmit=node in readmit,
            drivers=network,
        )
        try:
            async with joining as cluster:
                view = cluster.view
                async for event in cluster:
                    view = event.view if isinstance(event, ViewInstalled) else view
                    if len(view.members) >= members:
                        break
                told.views[node] = view
                told.incarnations[node] = cluster.incarnation
                await done.wait()
        except PhalanxError as error:
            told.errors[node] = error
            await done.wait()

    async def all_of_them() -> None:
        network, done = MemoryNetwork(), asyncio.Barrier(len(nodes))
        async with asyncio.timeout(GUARD_S):
            await asyncio.gather(*(one(network, node, done) for node in nodes))

    asyncio.run(all_of_them())
    return told


def record_of(config: ClusterConfig, node: int) -> wire.Record:
    """What a node that is not running would find."""
    file = RecordFile(config.state_dir, f"n{node}", cluster=config.name)
    file.lock()
    data = file.load()
    file.close()
    record = wire.decode_record(data) if data is not None else None
    assert record is not None
    return record


def lose_disk(config: ClusterConfig, node: int) -> None:
    """The folder of a node is gone."""
    shutil.rmtree(Path(config.state_dir) / f"n{node}")


def test_a_majority_that_is_forced_goes_on_in_the_next_era(config: ClusterConfig) -> None:
    """Two of three lost their disks; the one that is left and one of them found era 2."""
    assert play(config, (1, 2, 3)).errors == {}
    for node in (2, 3):
        lose_disk(config, node)
    told = play(config, (1, 2), force=(1, 2))
    assert told.errors == {}
    assert {view.id for view in told.views.values()} == {ViewId(2, 1)}
    assert record_of(config, 2).voter
    assert not record_of(config, 1).founding
    assert told.incarnations[1] == 2
    assert told.incarnations[2] > 1_000_000_000, "above all that a peer may remember"
    told = play(config, (1, 2, 3), readmit=(3,), members=3)
    assert told.errors == {}
    assert {view.id.era for view in told.views.values()} == {2}


def test_one_that_is_forced_alone_waits_and_its_record_says_so(config: ClusterConfig) -> None:
    """Durable before it says anything; started as usual it still waits, by readmit no more."""
    assert play(config, (1, 2, 3)).errors == {}
    before = record_of(config, 3)
    error = play(config, (3,), force=(3,), timeout=0.3).errors[3]
    assert isinstance(error, JoinTimeout)
    assert "started with --force: waits for a majority of the votes to be started so" in str(error)
    after = record_of(config, 3)
    assert (after.era, after.founding, after.decided) == (2, True, None)
    assert after.seen == before.seen
    assert after.incarnation == before.incarnation + 1
    error = play(config, (3,), timeout=0.3).errors[3]
    assert "started with --force: waits" in str(error)
    assert record_of(config, 3).founding
    play(config, (3,), readmit=(3,), timeout=0.3)
    after = record_of(config, 3)
    assert (after.era, after.founding, after.voter) == (2, False, False)


def test_a_damaged_record_is_no_obstacle_to_force(config: ClusterConfig) -> None:
    """The operator's word covers lost disks, and a torn record is one."""
    path = Path(config.state_dir) / "n1" / "record"
    path.parent.mkdir()
    path.write_bytes(b"torn")
    play(config, (1,), force=(1,), timeout=0.3)
    record = record_of(config, 1)
    assert (record.founding, record.voter) == (True, False)


def test_force_and_readmit_exclude_each_other(config: ClusterConfig) -> None:
    """One founds a cluster without the others' leave, the other asks for it."""
    with pytest.raises(UsageError, match="give one of them"):
        Cluster.join(config, node=1, force=True, readmit=True)
