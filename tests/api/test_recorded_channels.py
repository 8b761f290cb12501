"""What a recorder writes of ordered channels can be judged, and tells what was done."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from phalanx.barrier.testing.channel_recorder import RecordedChannel
from phalanx.transport.errors import UsageError
from phalanx.transport.events import Position
from phalanx.transport.testing.guarantees import complain, judge
from phalanx.transport.testing.history import (
    SUFFIX,
    Accepted,
    AnyRecord,
    Opened,
    Placed,
    Read,
    Refused,
    Sent,
    encode,
    name_of,
)
from phalanx.transport.testing.history_files import load, read_records
from phalanx.transport.testing.memory import memory_cluster
from phalanx.transport.testing.recorder import Recorder

GUARD_S = 20.0


class Log:
    """An application whose state is all that it has read."""

    def __init__(self, recorder: Recorder, *, stateful: bool = True) -> None:
        self.read: list[bytes] = []
        self.channel = RecordedChannel(
            recorder,
            "log",
            on_state_request=(lambda: b",".join(self.read)) if stateful else None,
            on_state=self._take if stateful else None,
        )

    def _take(self, state: bytes) -> None:
        self.read = state.split(b",") if state else []

    async def read_to(self, position: Position) -> None:
        """Read everything up to a position."""
        async for entry in self.channel:
            self.read.append(entry.payload)
            if entry.position >= position:
                break


@asynccontextmanager
async def recorders(folder: Path, nodes: int = 3) -> AsyncGenerator[list[Recorder]]:
    """The recorders of a cluster in memory."""
    async with asyncio.timeout(GUARD_S), memory_cluster(nodes) as memory:
        made = [
            Recorder(cluster, folder / f"{node}{SUFFIX}")
            for node, cluster in memory.clusters.items()
        ]
        try:
            yield made
        finally:
            for recorder in made:
                recorder.close()


def records(folder: Path, node: int) -> list[AnyRecord]:
    """What is on disk of a node."""
    return list(read_records(folder / f"{node}{SUFFIX}"))


async def play(folder: Path, *, stateful: bool = True) -> None:
    """Two publish and read, the third opens late."""
    async with recorders(folder) as (one, two, three):
        logs = [Log(one, stateful=stateful), Log(two, stateful=stateful)]
        last = Position(0, 0, 0)
        for number in range(10):
            for node, log in enumerate(logs):
                name = b"%d of %d" % (number, node)
                last = await log.channel.publish(name, safe=bool(number % 2))
        reading = [asyncio.create_task(log.read_to(last)) for log in logs]
        await asyncio.gather(*reading)
        late = Log(three, stateful=stateful)
        await late.channel.opened()
        publication = await logs[0].channel.submit([b"one", b"more"])
        logs.append(late)
        last = await publication.ordered()
        # The donor reads on to where the late one begins, and is asked for its state there.
        await asyncio.gather(*(log.read_to(last) for log in logs))
        if stateful:
            assert logs[0].read == logs[1].read == late.read


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The histories of a run whose applications have state."""
    folder = tmp_path_factory.mktemp("played")
    asyncio.run(play(folder))
    return folder


def test_a_recorded_channel_puts_order_and_safety_to_the_test(played: Path) -> None:
    """What is published, read, placed and taken over stands in the histories."""
    evidence = load([played])
    found = {it.guarantee.name: it for it in judge(evidence, quiet=True)}
    assert complain(list(found.values())) == ""
    assert found["agreed order"].checked >= 20
    assert found["safe delivery"].checked >= 20
    told = records(played, 1)
    sent = [it for it in told if isinstance(it, Sent)]
    assert [it.safe for it in sent[:10]] == [False, True] * 5
    assert {(it.channel, it.to, it.receipt) for it in sent} == {("log", 0, False)}
    assert sum(isinstance(it, Accepted) for it in told) == len(sent)
    placed = [it.message for it in told if isinstance(it, Placed)]
    assert placed == [name_of(b"%d of 0" % number) for number in range(10)]
    lines = {it.line for node in (1, 2, 3) for it in records(played, node) if isinstance(it, Read)}
    assert len(lines) <= 2, "the first begins with nothing, the others with its state"
    (opened,) = (it for it in records(played, 3) if isinstance(it, Opened))
    assert opened.line
    assert not opened.alone


def test_a_channel_without_state_is_recorded_as_well(tmp_path: Path) -> None:
    """Then there is none to compare."""
    asyncio.run(play(tmp_path, stateful=False))
    assert complain(judge(load([tmp_path]), quiet=True)) == ""
    reads = [it for it in records(tmp_path, 3) if isinstance(it, Read)]
    assert {it.digest for it in reads} == {b""}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"messages": (b"strange!",)}, "nobody published"),
        ({"sender": 3}, "as node 3's"),
        ({"digest": b"another"}, "different states"),
        ({"first": Position(9, 9, 9)}, "never read"),
    ],
)
def test_what_is_wrong_in_it_is_found(
    played: Path, tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    """A record that is changed breaks guarantee 1 or 6."""
    shutil.copytree(played, tmp_path, dirs_exist_ok=True)
    path = tmp_path / f"2{SUFFIX}"
    lines = [encode(it) for it in records(tmp_path, 2)]
    place = next(p for p, it in enumerate(records(tmp_path, 2)) if isinstance(it, Read))
    read = records(tmp_path, 2)[place]
    lines[place] = encode(msgspec.structs.replace(read, **change))
    path.write_bytes(b"".join(lines))
    assert complaint in complain(judge(load([tmp_path])))


def test_what_is_refused_was_not_published(tmp_path: Path) -> None:
    """And what was cancelled perhaps."""

    async def scene() -> None:
        async with recorders(tmp_path) as (one, *_):
            log = Log(one)
            with pytest.raises(UsageError):
                await log.channel.publish(bytes(one.cluster.config.limits.message_bytes_max + 1))
            publishing = asyncio.create_task(log.channel.publish_many([b"a", b"b"]))
            # One pass of the loop, in which the task begins: nothing is waited for, and what it
            # publishes cannot have a place before the loop has read from the network.
            await asyncio.sleep(0)
            publishing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await publishing

    asyncio.run(scene())
    refused = [it for it in records(tmp_path, 1) if isinstance(it, Refused)]
    assert [(it.error, it.perhaps) for it in refused] == [
        ("UsageError", False),
        ("CancelledError", True),
    ]
