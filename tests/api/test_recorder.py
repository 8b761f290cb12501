"""What a recorder writes can be judged, whatever becomes of its process."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from phalanx.barrier.testing.recorder import RecordedBarriers
from phalanx.transport import EvictedError, Message, NoQuorum, UsageError, ViewInstalled
from phalanx.transport.errors import (
    BarrierBroken,
    BarrierTimeout,
    EnvironmentTrouble,
    Overloaded,
)
from phalanx.transport.testing.guarantees import complain, judge
from phalanx.transport.testing.history import (
    SUFFIX,
    Accepted,
    AnyRecord,
    Arrived,
    Asked,
    Began,
    Expelled,
    Left,
    Refused,
    Returned,
    Sent,
)
from phalanx.transport.testing.history_files import load, read_records
from phalanx.transport.testing.memory import MemoryCluster, memory_cluster
from phalanx.transport.testing.read_ahead import AHEAD_BYTES
from phalanx.transport.testing.recorder import Recorder

from .arrivals import two_arrived

GUARD_S = 20.0
Scene = Callable[[Path], Coroutine[Any, Any, None]]


def played(scene: Scene) -> Callable[[Path], None]:
    """A test of an asynchronous scene, with a guard against hanging."""

    @functools.wraps(scene)
    def test(tmp_path: Path) -> None:
        asyncio.run(asyncio.wait_for(scene(tmp_path), GUARD_S))

    return test


class Recorded:
    """A cluster in memory whose nodes are recorded."""

    def __init__(self, memory: MemoryCluster, folder: Path) -> None:
        self.memory = memory
        self.folder = folder
        self.recorders = {
            node: Recorder(cluster, folder / f"{node}{SUFFIX}")
            for node, cluster in memory.clusters.items()
        }
        self.barriers = {n: RecordedBarriers(recorder) for n, recorder in self.recorders.items()}

    async def exchange(self, *nodes: int, word: str = "end") -> None:
        """All of these have sent something, everybody holds it, and it has been read."""
        chosen = nodes or tuple(self.recorders)
        for node in chosen:
            payload = f"{word} of {node}".encode()
            receipt = await self.recorders[node].multicast(payload)
            await receipt.held(timeout=5)
        for node in chosen:
            await self.recorders[node].all_settled()

    def records(self, node: int) -> list[AnyRecord]:
        """What is on disk of a node."""
        return list(read_records(self.folder / f"{node}{SUFFIX}"))


@asynccontextmanager
async def recorded(folder: Path, nodes: int = 3) -> AsyncGenerator[Recorded]:
    """Everything is judged at the end."""
    async with memory_cluster(nodes) as memory:
        run = Recorded(memory, folder)
        try:
            yield run
        finally:
            for recorder in run.recorders.values():
                recorder.close()
    assert complain(judge(load([folder]))) == ""


@played
async def test_a_recorded_run_puts_the_guarantees_to_the_test(tmp_path: Path) -> None:
    """Messages to all and to one, receipts, a barrier: all stand in the histories."""
    async with recorded(tmp_path) as run:
        for number in range(20):
            for node, recorder in run.recorders.items():
                await recorder.multicast(b"%d of %d" % (number, node))
            await run.recorders[1].send(2, b"%d for 2" % number)
            await run.recorders[3].multicast_many([b"%d, %d" % (number, n) for n in range(3)])
        await asyncio.gather(*(b.wait("stage", timeout=5) for b in run.barriers.values()))
        await run.exchange()
        await run.barriers[1].barriers.wait("alone", parties=1, timeout=5)
    findings = {f.guarantee.number: f for f in judge(load([tmp_path]), quiet=True)}
    assert complain(list(findings.values())) == ""
    assert findings[1].checked == 20 * (3 * 3 + 1 + 3 * 3) + 3 * 3
    assert findings[3].checked == 20 * (3 + 1 + 3) + 3
    assert (findings[9].checked, findings[11].checked, findings[6].checked) == (3, 1, 1)


@played
async def test_what_a_barrier_promises_stands_before_its_release(tmp_path: Path) -> None:
    """The reader may be late; the message was there to be had when the wait returned."""
    async with recorded(tmp_path) as run:
        for node, recorder in run.recorders.items():
            await recorder.multicast(b"before of %d" % node)
        await asyncio.gather(*(b.wait("stage", timeout=5) for b in run.barriers.values()))
        read = [e.payload for e in run.recorders[2].take_ready() if isinstance(e, Message)]
        assert sorted(read) == [b"before of 1", b"before of 2", b"before of 3"]
    [ten] = [f for f in judge(load([tmp_path])) if f.guarantee.number == 10]
    assert (ten.verdict, ten.checked) == ("held", 3)


@played
async def test_broken_barriers_are_the_same_for_all(tmp_path: Path) -> None:
    """The error names the generation, so that two parties' outcomes can be compared."""
    async with recorded(tmp_path) as run:
        hasty = run.barriers[1].wait("late", timeout=0.2)
        patient = run.barriers[2].wait("late", timeout=5)
        timed_out, broken = await asyncio.gather(hasty, patient, return_exceptions=True)
        assert isinstance(timed_out, BarrierTimeout)
        assert isinstance(broken, BarrierBroken)
        assert timed_out.generation == broken.generation is not None
        with pytest.raises(UsageError):
            await run.barriers[1].wait("late", parties="nobody")
    eleven = judge(load([tmp_path]))[10]
    assert (eleven.verdict, eleven.checked) == ("held", 1)
    returned = [r for r in read_records(tmp_path / f"1{SUFFIX}") if isinstance(r, Returned)]
    assert [r.verdict for r in returned] == ["taken back", "unknown"]


@played
async def test_who_gives_an_arrival_up_does_not_know_what_became_of_it(tmp_path: Path) -> None:
    """The others may be released with it, and then it must not look as if it had not arrived."""
    async with recorded(tmp_path) as run:
        given_up = await run.barriers[1].arrive("close", parties=2, timeout=5)
        waiting = await run.barriers[2].arrive("close", parties=2, timeout=5)
        given_up.cancel()
        with pytest.raises(BarrierBroken):
            await given_up.wait()
        with contextlib.suppress(BarrierBroken, BarrierTimeout):
            await waiting.wait()
    [returned] = [r for r in read_records(tmp_path / f"1{SUFFIX}") if isinstance(r, Returned)]
    assert returned.verdict == "unknown"


@played
async def test_who_takes_an_arrival_back_is_told_what_the_others_are(tmp_path: Path) -> None:
    """Its outcome is that of the order, so that it is compared with theirs."""
    async with recorded(tmp_path) as run:
        taken_back = await run.barriers[1].arrive("open", timeout=5)
        waiting = await run.barriers[2].arrive("open", timeout=5)
        # Else the first may be taken back while the second is not there, and that waits alone.
        await two_arrived(run.barriers[1].barriers, "open")
        taken_back.take_back()
        told = await asyncio.gather(taken_back.wait(), waiting.wait(), return_exceptions=True)
        assert [type(it) for it in told] == [BarrierBroken, BarrierBroken]
    eleven = judge(load([tmp_path]))[10]
    assert (eleven.verdict, eleven.checked) == ("held", 1)


@played
async def test_a_send_is_written_before_it_is_made(tmp_path: Path) -> None:
    """Whoever is killed in between has sent it as far as anybody can know."""
    async with recorded(tmp_path) as run:
        recorder = run.recorders[1]
        written: list[AnyRecord] = []
        call = recorder.cluster.multicast_many

        async def look_on(payloads: list[bytes], **_options: object) -> object:
            written.extend(run.records(1))
            return await call(payloads)

        with mock.patch.object(recorder.cluster, "multicast_many", look_on):
            await recorder.multicast(b"x")
        assert isinstance(written[-1], Sent)
        kinds = [type(record) for record in run.records(1)]
        assert kinds[-1] is Accepted


@played
async def test_a_refusal_is_written_and_counts_as_not_sent(tmp_path: Path) -> None:
    """The same message may be sent again after it."""
    async with recorded(tmp_path) as run:
        recorder = run.recorders[1]
        with pytest.raises(UsageError):
            await recorder.send(77, b"x")
        payloads = [b"%d" % number + bytes(100_000) for number in range(1000)]

        async def fill() -> None:
            while payloads:  # no turn of the event loop in between, so nothing can leave
                await recorder.multicast(payloads[-1], wait=False)
                payloads.pop()

        with pytest.raises(Overloaded):
            await fill()
        receipt = await recorder.multicast(payloads[-1])
        await receipt.held(timeout=5)
        refused = [r for r in run.records(1) if isinstance(r, Refused)]
        assert [(r.error, r.perhaps) for r in refused] == [
            ("UsageError", False),
            ("Overloaded", False),
        ]
        await run.exchange()
        assert Asked in map(type, run.records(1))


@played
async def test_a_minority_and_its_return_are_judged(tmp_path: Path) -> None:
    """PrimaryLost, eviction and the next incarnation stand in one file."""
    async with recorded(tmp_path) as run:
        lonely = run.recorders[3]
        await lonely.multicast(b"all here?")
        for rail in "ab":
            run.memory.network.cut(3, rail)
        async for event in run.recorders[1]:
            if isinstance(event, ViewInstalled) and event.left:
                break
        await run.exchange(1, 2, word="without 3")
        with pytest.raises(NoQuorum):
            await run.barriers[3].wait("alone", timeout=5)
        for rail in "ab":
            run.memory.network.heal(3, rail)
        with pytest.raises(EvictedError):
            async for _ in lonely:
                pass
    kinds = [type(record) for record in read_records(tmp_path / f"3{SUFFIX}")]
    assert Expelled in kinds
    assert kinds.index(Arrived) < kinds.index(Expelled)


@played
async def test_leaving_ends_a_history(tmp_path: Path) -> None:
    """Nothing stands behind it, and a reader's loop ends as that of a cluster does."""
    async with recorded(tmp_path) as run:
        await run.memory.clusters[3].leave()
        async for _ in run.recorders[3]:
            pass
        assert isinstance(run.records(3)[-1], Left)


@played
async def test_pages_are_judged_apart(tmp_path: Path) -> None:
    """A long run is cut where nothing is under way; each page begins with the view."""
    async with recorded(tmp_path) as run:
        await run.exchange(word="first")
        after = tmp_path / "after"
        after.mkdir()
        for node, recorder in run.recorders.items():
            recorder.turn_page(after / f"{node}{SUFFIX}")
        await run.exchange(word="second")
        for page in (1, 2):
            (tmp_path / f"{page}{SUFFIX}").unlink()
        (tmp_path / f"3{SUFFIX}").unlink()
    evidence = load([tmp_path / "after"])
    assert complain(judge(evidence, quiet=True)) == ""
    assert len(evidence.sent) == 3
    assert all(isinstance(history.records[0], Began) for history in evidence.histories)


@played
async def test_an_unread_recorder_stops_reading(tmp_path: Path) -> None:
    """The cluster's own bounds must hold for an application that is recorded, too."""
    async with recorded(tmp_path) as run:
        reader = run.recorders[2]
        payloads = [b"%d" % number + bytes(AHEAD_BYTES // 10) for number in range(30)]
        receipts = [await run.recorders[1].multicast(payload) for payload in payloads]
        await receipts[-1].held(timeout=10)
        assert reader.cluster.stats()["queue"]["bytes"] > AHEAD_BYTES // 2
        assert len(reader.take_ready()) == 30 + 1, "and the first view"


@played
async def test_reading_can_be_left_in_the_middle_of_a_batch(tmp_path: Path) -> None:
    """What was not taken yet is still there, one by one and at once."""
    async with recorded(tmp_path) as run:
        numbers = [b"%d" % number for number in range(6)]
        receipt = await run.recorders[1].multicast_many(numbers)
        await receipt.held(timeout=5)
        read: list[bytes] = []
        async for event in run.recorders[2]:
            if isinstance(event, Message):
                read.append(event.payload)
                break
        async for event in run.recorders[2]:
            assert isinstance(event, Message)
            read.append(event.payload)
            break
        rest = [event for event in run.recorders[2].take_ready() if isinstance(event, Message)]
        assert read + [event.payload for event in rest] == numbers


@played
async def test_a_full_disk_ends_the_reading(tmp_path: Path) -> None:
    """A history with a hole in it would be worse than none, and nobody may wait for ever."""
    full = f"{tmp_path.root}dev/full"
    async with memory_cluster(2) as memory:
        recorder = Recorder(memory.clusters[1], full)
        with pytest.raises(EnvironmentTrouble, match="/dev/full cannot be written"):
            async for _ in recorder:
                pass
        recorder.close()
