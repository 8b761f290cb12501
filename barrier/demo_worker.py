"""One process of the demo: it sends a numbered stream, checks all others, meets at barriers.

`python -m phalanx.barrier.demo_worker CONFIG NODE RATE HISTORY` is started by `phalanx demo`. It
reads `go`, `report`, `quiet AT_NS` and `leave` from its standard input and writes `Report`s to its
standard output, and its history to a file. The end of its input means that whoever started it is
gone: it leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import time
from collections import Counter

from phalanx.transport import (
    Batch,
    Cluster,
    Event,
    Evicted,
    EvictedError,
    MessageUndelivered,
    NoQuorum,
    Overloaded,
    PathChanged,
    PeerRefused,
    PhalanxError,
    PrimaryLost,
    PrimaryRegained,
    Rejoined,
    ViewInstalled,
)
from phalanx.transport.errors import BarrierBroken, BarrierError
from phalanx.transport.testing.numbered import Tally, make_message
from phalanx.transport.testing.recorder import Recorder

from .demo_reports import (
    REPORT_EVERY_S,
    SLOT_NS,
    BarrierSeen,
    Deliveries,
    PathMoved,
    PathSeen,
    Report,
    ViewSeen,
    encode,
)
from .testing.recorder import RecordedBarriers

MESSAGE_BYTES = 200
TICK_NS = 100_000_000
"""All meet at a barrier ten times a second, on a common grid of times."""
BARRIER_TIMEOUT_S = 5.0
JOIN_TIMEOUT_S = 30.0
BURST_MAX = 64
"""Messages sent in one go by one who is late, before it looks at what has arrived."""
PAUSE_S = 0.02
"""How soon one who may not act at the moment tries again."""


class Worker:
    """The tasks of one process and what they have seen since the last report."""

    def __init__(self, recorder: Recorder, rate: float) -> None:
        self._recorder = recorder
        self._cluster: Cluster = recorder.cluster
        self._rate = rate
        self._tally = Tally(self._cluster.node_id)
        self._incarnation = self._cluster.incarnation
        self._sent = 0
        self._carrier = ""
        self._last_ns: dict[int, int] = {}
        self._slots: dict[tuple[int, int], tuple[int, int]] = {}
        self._views: list[ViewSeen] = []
        self._moves: list[PathMoved] = []
        self._barriers: list[BarrierSeen] = []
        self._notes: list[str] = []
        self._undelivered: Counter[int] = Counter()
        self._quiet_ns = sys.maxsize
        self._quiet = False
        self.go = asyncio.Event()
        self.leave = asyncio.Event()

    def quiet_at(self, at_ns: int) -> None:
        """Stop sending and meeting at that time."""
        self._quiet_ns = at_ns

    # ----------------------------------------------------------------------------- receiving

    async def read(self) -> None:
        """Check everything that comes, until the stream ends."""
        try:
            async for event in self._recorder.batches():
                if isinstance(event, Batch):
                    self._take(event, time.monotonic_ns())
                else:
                    self._note(event, time.monotonic_ns())
        except EvictedError as error:
            self._notes.append(str(error))

    def _take(self, batch: Batch, now_ns: int) -> None:
        sender = batch.sender
        gap_us = (now_ns - self._last_ns.get(sender, now_ns)) // 1000
        self._last_ns[sender] = now_ns
        count = self._tally.take(sender, batch.payloads)
        key = (sender, now_ns // SLOT_NS)
        before, longest = self._slots.get(key, (0, 0))
        self._slots[key] = (before + count, max(longest, gap_us))

    def _note(self, event: Event, now_ns: int) -> None:
        match event:
            case ViewInstalled(view=view, joined=joined):
                members = tuple((m.node, m.incarnation) for m in view.incarnations)
                self._tally.installed(dict(members), joined)
                for node in self._last_ns if self._cluster.node_id in joined else joined:
                    # Silence before somebody was a member is no gap.
                    self._last_ns[node] = now_ns
                seen = ViewSeen(era=view.id.era, k=view.id.k, members=members, at_ns=now_ns)
                self._views.append(seen)
            case PathChanged(peer=peer, rail=rail, state=state, primary=primary):
                self._moves.append(PathMoved(peer, rail, state.value, primary, now_ns))
            case Rejoined(incarnation=incarnation):
                self._incarnation, self._sent = incarnation, 0
                self._notes.append(f"is back as start {incarnation}")
            case Evicted(view_id=view_id):
                self._notes.append(f"was evicted by view {view_id}")
            case PrimaryLost(reachable=reachable):
                names = ", ".join(map(self._cluster.name_of, sorted(reachable)))
                self._notes.append(f"may not act any more (reachable: {names})")
            case PrimaryRegained():
                self._notes.append("is in contact with the majority again")
            case MessageUndelivered(missing=missing):
                self._undelivered.update(missing.keys())
            case PeerRefused(peer=peer, reason=reason):
                self._notes.append(f"refused node {peer}: {reason}")
            case _:
                pass

    # ------------------------------------------------------------------------------- sending

    async def send(self) -> None:
        """Multicast numbered messages at a steady rate, on a schedule of absolute times."""
        await self.go.wait()
        start_ns, owed = time.monotonic_ns(), 0
        while (now_ns := time.monotonic_ns()) < self._quiet_ns:
            due = int((now_ns - start_ns) * self._rate / 1e9) - owed
            for _ in range(min(due, BURST_MAX)):
                if not await self._send_one():
                    # Messages that could not be sent are not made up for.
                    start_ns, owed = time.monotonic_ns(), -1
                    await asyncio.sleep(PAUSE_S)
                    break
                owed += 1
            ahead_s = (start_ns + (owed + 1) * 1e9 / self._rate - time.monotonic_ns()) / 1e9
            await asyncio.sleep(max(0.0, ahead_s))
        self._quiet = True

    async def _send_one(self) -> bool:
        """The next message; False if it was not accepted, so that its number is still free."""
        incarnation, number = self._incarnation, self._sent + 1
        message = make_message(self._cluster.node_id, incarnation, number, MESSAGE_BYTES)
        try:
            await self._recorder.multicast(message)
        except (NoQuorum, EvictedError, Overloaded):
            return False
        if incarnation == self._incarnation:
            self._sent = number
        return True

    async def meet(self) -> None:
        """Wait for everybody at a barrier, again and again."""
        await self.go.wait()
        barriers = RecordedBarriers(self._recorder)
        while (tick_ns := (time.monotonic_ns() // TICK_NS + 1) * TICK_NS) < self._quiet_ns:
            await asyncio.sleep((tick_ns - time.monotonic_ns()) / 1e9)
            generation, why = (0, 0, 0), ""
            try:
                release = await barriers.wait("tick", timeout=BARRIER_TIMEOUT_S)
                at = release.generation
                generation = (at.era, at.k, at.index)
            except BarrierError as error:
                why = error.reason if isinstance(error, BarrierBroken) else str(error)
            except (NoQuorum, EvictedError, Overloaded) as error:
                self._notes.append(f"at the barrier: {error}")
                await asyncio.sleep(PAUSE_S)
                continue
            now_ns = time.monotonic_ns()
            if not why or now_ns < self._quiet_ns:
                self._barriers.append(BarrierSeen(generation, why, now_ns))

    # ----------------------------------------------------------------------------- reporting

    async def report(self) -> None:
        """Say four times a second what has happened."""
        while not self.leave.is_set():
            self.write()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_EVERY_S):
                    await self.leave.wait()

    def write(self) -> None:
        """One report, now."""
        now_ns = time.monotonic_ns()
        paths = self._cluster.paths
        for rails in paths.values():
            self._carrier = next((path.carrier for path in rails.values()), self._carrier)
        report = Report(
            node=self._cluster.node_id,
            incarnation=self._incarnation,
            at_ns=now_ns,
            carrier=self._carrier,
            sent=self._sent,
            quiet=self._quiet,
            lost=self._tally.lost,
            duplicated=self._tally.duplicated,
            reordered=self._tally.reordered,
            streams=self._tally.streams(),
            deliveries=[
                Deliveries(sender=sender, slot=slot, count=count, gap_us=gap_us)
                for (sender, slot), (count, gap_us) in self._slots.items()
            ],
            views=self._views,
            paths=[
                PathSeen(peer, rail, path.state.value, path.primary)
                for peer, rails in paths.items()
                for rail, path in rails.items()
            ],
            moves=self._moves,
            barriers=self._barriers,
            notes=self._notes,
            undelivered=dict(self._undelivered),
        )
        self._slots, self._views, self._moves = {}, [], []
        self._barriers, self._notes = [], []
        sys.stdout.buffer.write(encode(report))
        sys.stdout.buffer.flush()


async def _commands(worker: Worker) -> None:
    """Obey the lines of standard input."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        match line.split():
            case [b"go"]:
                worker.go.set()
            case [b"report"]:
                worker.write()
            case [b"quiet", at_ns]:
                worker.quiet_at(int(at_ns))
            case _:
                break
    worker.leave.set()


async def run(config: str, name: str, rate: float, history: str) -> None:
    """The whole life of the process."""
    async with Cluster.join(config, node=name, timeout=JOIN_TIMEOUT_S, rejoin=True) as cluster:
        recorder = Recorder(cluster, history)
        worker = Worker(recorder, rate)
        # What was imported lives for ever: the collector need not look at it again and again.
        gc.freeze()
        jobs = [worker.read(), worker.send(), worker.meet(), worker.report(), _commands(worker)]
        tasks = [asyncio.ensure_future(job) for job in jobs]
        leaving = asyncio.ensure_future(worker.leave.wait())
        waiting = {*tasks, leaving}
        try:
            while not leaving.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()  # a job that failed ends the process with its traceback
            worker.write()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def main() -> int:
    """Entry point of the process."""
    config, name, rate, history = sys.argv[1:5]
    try:
        asyncio.run(run(config, name, float(rate), history))
    except PhalanxError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 1
    except BrokenPipeError:
        # Nobody reads any more; keep the interpreter from complaining when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
