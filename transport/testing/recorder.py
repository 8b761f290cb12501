"""Writes down what an application sends and sees of its cluster: a history that can be checked.

An application (or a test) uses a `Recorder` in the place of its `Cluster` to send and to read:

    async with Cluster.join("cluster.toml", node="alpha") as cluster:
        with Recorder(cluster, "alpha.history.jsonl") as recorder:
            await recorder.multicast(b"...")
            async for event in recorder:
                ...

Each record is given to the operating system before anything depends on it, so that the history
of a process that is killed is complete up to its end.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from ..cluster import Cluster
from ..errors import EnvironmentTrouble, EventsLost, PhalanxError, UsageError
from ..events import (
    Batch,
    Event,
    Evicted,
    Lane,
    Member,
    PathChanged,
    Position,
    PrimaryLost,
    PrimaryRegained,
    Rejoined,
    ViewId,
    ViewInstalled,
)
from ..receipts import Receipt
from ..sending import LANES
from .history import (
    Accepted,
    Answered,
    AnyRecord,
    Arrived,
    Asked,
    Began,
    Expelled,
    Got,
    Leased,
    Left,
    LostPrimary,
    Missed,
    PathSeen,
    Refused,
    RegainedPrimary,
    Remarked,
    Returned,
    Sent,
    Stood,
    Told,
    encode,
    installed,
    name_of,
)
from .read_ahead import ReadAhead, batch_of, events_of

LOOK_NS = 10_000_000
"""How often it is looked whether the node may act, and how its receipts are."""
STOOD_NS = 50_000_000
"""A look that is later than this by so much says that the process stood still."""
LEASED_NS = 100_000_000
"""How often what was seen of the lease is written down."""


class RecordedReceipt:
    """A receipt whose waits are written down."""

    def __init__(self, recorder: Recorder, receipt: Receipt) -> None:
        self._recorder = recorder
        self._receipt = receipt

    @property
    def settled(self) -> bool:
        """As of `Receipt`."""
        return self._receipt.settled

    async def held(self, *, timeout: float | None = None) -> None:
        """As of `Receipt`."""
        await self._recorder.waits("a receipt", timeout, self._receipt.held(timeout=timeout))


class Recorder:
    """Sends and reads for the application, and writes down both; the cluster's one reader.

    If the file cannot be written, reading ends with `EnvironmentTrouble`.
    """

    def __init__(self, cluster: Cluster, path: str | os.PathLike[str]) -> None:
        self.cluster = cluster
        self._loop = asyncio.get_running_loop()
        self._path = Path(path)
        self._file = self._path.open("ab", buffering=0)
        self._incarnation = 0
        self._numbers = itertools.count(1)
        self._open: dict[tuple[int, Lane], deque[tuple[int, Receipt]]] = defaultdict(deque)
        self._installed: ViewInstalled | None = None
        self._ahead = ReadAhead()
        self._settled = asyncio.Event()
        self._leased: tuple[ViewId | None, int, int] | None = None
        self._looked_ns = self.now_ns()
        self._reading = asyncio.ensure_future(self._read())
        self._looking = self._loop.call_later(LOOK_NS / 1e9, self._look)
        self._begin(cluster.incarnation)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write nothing any more; the cluster goes on without a reader."""
        if self._file.closed:
            return
        self._looking.cancel()
        self._reading.cancel()
        self._settle()
        self._write_lease()
        self._file.close()
        self._end(UsageError("the recorder is closed"), in_good_order=False)

    def turn_page(self, path: str | os.PathLike[str]) -> None:
        """Go on in another file, which can be checked apart from what was before.

        For long runs. Nothing may be under way at any node: all that was sent has arrived and is
        settled, nobody waits at a barrier, and the next send follows when all have turned.
        """
        self._settle()
        self._write_lease()
        self._file.close()
        self._path = Path(path)
        self._file = self._path.open("ab", buffering=0)
        self._begin(self._incarnation)
        if self._installed is not None:
            self.write(installed(self.now_ns(), self._installed))

    @property
    def path(self) -> Path:
        """The file that is written now."""
        return self._path

    async def all_settled(self) -> None:
        """Return when it is known of everything accepted who holds it."""
        while any(self._open.values()):
            self._settled.clear()
            await self._settled.wait()

    @staticmethod
    def now_ns() -> int:
        """The clock of all records: nanoseconds, one for all processes of a machine."""
        return time.monotonic_ns()

    def write(self, record: AnyRecord) -> None:
        """Write a record down; for the recorders of barriers and channels as well."""
        if self._file.closed:
            return
        try:
            self._file.write(encode(record))
        except OSError as error:
            self._file.close()
            what = f"{self._path} cannot be written: {error.strerror or error}"
            self._end(EnvironmentTrouble(what), in_good_order=False)

    def _begin(self, incarnation: int) -> None:
        self._incarnation = incarnation
        config = self.cluster.config
        began = Began(
            self.now_ns(),
            self.cluster.node_id,
            incarnation,
            _clock(),
            config.timing.lease_ns,
            tuple(rail.name for rail in config.rails),
        )
        self.write(began)

    # ------------------------------------------------------------------------------- looking

    def _look(self) -> None:
        """Every now and then: what has become of receipts, and whether the node may act."""
        self._looking = self._loop.call_later(LOOK_NS / 1e9, self._look)
        now_ns = self.now_ns()
        if now_ns - self._looked_ns > LOOK_NS + STOOD_NS:
            self._write_lease()
            self.write(Stood(now_ns, self._looked_ns))
        self._looked_ns = now_ns
        self._settle()
        if self.cluster.incarnation != self._incarnation:
            return  # What is seen is of one that the application has not been told of.
        acting = self.cluster.primary
        view = self._view_id() if acting else None
        if self._leased is not None and self._leased[0] == view:
            self._leased = (view, self._leased[1], now_ns)
        else:
            self._write_lease()
            self._leased = (view, now_ns, now_ns)
        if now_ns - self._leased[1] >= LEASED_NS and acting:
            self._write_lease()

    def _view_id(self) -> ViewId | None:
        """What is installed now; it may be ahead of what the application was told."""
        try:
            return self.cluster.view.id
        except PhalanxError:
            return self._installed.view.id if self._installed is not None else None

    def _write_lease(self) -> None:
        if self._leased is not None:
            view, since_ns, at_ns = self._leased
            self.write(Leased(at_ns, since_ns, view))
            self._leased = None

    def _settle(self) -> None:
        """Write down which receipts are known by now."""
        view = self._view_id()
        for (to, lane), receipts in self._open.items():
            told: tuple[int, dict[int, str]] | None = None
            while receipts and receipts[0][1].settled:
                number, receipt = receipts.popleft()
                missing = receipt.missing
                if told is not None and told[1] != missing:
                    self.write(Told(self.now_ns(), lane, to, *told, view))
                told = number, missing
            if told is not None:
                self.write(Told(self.now_ns(), lane, to, *told, view))
                self._settled.set()

    # ------------------------------------------------------------------------------- reading

    async def _read(self) -> None:
        while not self._ahead.over:
            try:
                async for item in self.cluster.batches():
                    self._keep(item)
                    await self._ahead.room()
            except EventsLost as lost:
                self._missed(lost)
            except PhalanxError as error:
                self._end(error, in_good_order=False)
            else:
                self._settle()
                self._write_lease()
                self.write(Left(self.now_ns()))
                self._end(UsageError("the cluster was left"), in_good_order=True)

    def drain(self) -> None:
        """Take all that is ready now: it is delivered, and stands in the history before what
        is written next.
        """
        try:
            for event in self.cluster.take_ready():
                self._keep(batch_of(event))
        except EventsLost as lost:
            self._missed(lost)

    def _missed(self, lost: EventsLost) -> None:
        self.write(Missed(self.now_ns(), str(lost)))
        self._ahead.put(lost)

    def _keep(self, item: Batch | Event) -> None:
        now_ns = self.now_ns()
        if isinstance(item, Batch):
            names = tuple(map(name_of, item.payloads))
            self.write(Got(now_ns, item.sender, item.lane, item.view_id, names, item.directed))
        else:
            self._settle()
            self._write_event(item, now_ns)
        self._ahead.put(item)

    def _write_event(self, event: Event, now_ns: int) -> None:
        match event:
            case ViewInstalled():
                self._installed = event
                self.write(installed(now_ns, event))
            case PathChanged(peer=peer, rail=rail, state=state, primary=primary):
                self.write(PathSeen(now_ns, peer, rail, state.value, primary))
            case PrimaryLost(view_id=view_id):
                self.write(LostPrimary(now_ns, view_id))
            case PrimaryRegained(view_id=view_id):
                self.write(RegainedPrimary(now_ns, view_id))
            case Evicted(view_id=view_id):
                self._write_lease()
                self.write(Expelled(now_ns, view_id))
            case Rejoined(incarnation=incarnation):
                self._open.clear()
                self._settled.set()
                self._leased = None
                self._begin(incarnation)
            case _:
                self.write(Remarked(now_ns, repr(event)))

    def _end(self, error: PhalanxError, *, in_good_order: bool) -> None:
        self._looking.cancel()
        self._ahead.end(error, in_good_order=in_good_order)

    def batches(self) -> AsyncIterator[Batch | Event]:
        """As of `Cluster`."""
        return self._ahead.batches()

    def __aiter__(self) -> AsyncIterator[Event]:
        """As of `Cluster`."""
        return self._ahead.events()

    def take_ready(self) -> list[Event]:
        """As of `Cluster`."""
        return [event for item in self.take_ready_batches() for event in events_of(item)]

    def take_ready_batches(self) -> list[Batch | Event]:
        """The same with messages as batches."""
        self.drain()
        return self._ahead.take_all()

    # ------------------------------------------------------------------------------- sending

    async def send(
        self,
        to: int | str,
        payload: bytes,
        *,
        channel: str = "",
        lane: str = "fifo",
        wait: bool = True,
        timeout: float | None = None,
    ) -> RecordedReceipt:
        """As of `Cluster`."""
        return await self.send_many(
            to, (payload,), channel=channel, lane=lane, wait=wait, timeout=timeout
        )

    async def send_many(
        self,
        to: int | str,
        payloads: Iterable[bytes],
        *,
        channel: str = "",
        lane: str = "fifo",
        wait: bool = True,
        timeout: float | None = None,
    ) -> RecordedReceipt:
        """As of `Cluster`."""
        messages = list(payloads)
        call = self.cluster.send_many(
            to, messages, channel=channel, lane=lane, wait=wait, timeout=timeout
        )
        node = 0
        with suppress(KeyError):  # else it will be refused
            node = self.cluster.config.node(to).id
        return await self._send(node, lane, messages, timeout, call)

    async def multicast(
        self,
        payload: bytes,
        *,
        channel: str = "",
        lane: str = "fifo",
        wait: bool = True,
        timeout: float | None = None,
    ) -> RecordedReceipt:
        """As of `Cluster`."""
        return await self.multicast_many(
            (payload,), channel=channel, lane=lane, wait=wait, timeout=timeout
        )

    async def multicast_many(
        self,
        payloads: Iterable[bytes],
        *,
        channel: str = "",
        lane: str = "fifo",
        wait: bool = True,
        timeout: float | None = None,
    ) -> RecordedReceipt:
        """As of `Cluster`."""
        messages = list(payloads)
        call = self.cluster.multicast_many(
            messages, channel=channel, lane=lane, wait=wait, timeout=timeout
        )
        return await self._send(0, lane, messages, timeout, call)

    async def _send(
        self,
        to: int,
        lane_name: str,
        payloads: list[bytes],
        timeout: float | None,
        call: Awaitable[Receipt],
    ) -> RecordedReceipt:
        lane = LANES.get(lane_name, Lane.FIFO)
        number, now_ns = self.next_number(), self.now_ns()
        names = tuple(map(name_of, payloads))
        whose = self.whose()
        deadline_ns = self.deadline_ns(now_ns, timeout)
        sent = Sent(now_ns, number, lane, to, names, deadline_ns, incarnation=whose)
        with self.sending(sent, refusals=(PhalanxError,)):
            receipt = await call
        if not whose:
            self._open[to, lane].append((number, receipt))
        return RecordedReceipt(self, receipt)

    @contextmanager
    def sending(
        self, sent: Sent, *, refusals: tuple[type[PhalanxError], ...]
    ) -> Generator[None, None, None]:
        """Write down a call that sends, before it is made and when it has ended.

        By one of `refusals` nothing of a single message was accepted.
        """
        self.write(sent)
        try:
            yield
        except BaseException as error:
            perhaps = len(sent.messages) > 1 or not isinstance(error, refusals)
            self.write(Refused(self.now_ns(), sent.number, type(error).__name__, perhaps))
            raise
        self.write(Accepted(self.now_ns(), sent.number))

    def next_number(self) -> int:
        """Names a call."""
        return next(self._numbers)

    def deadline_ns(self, now_ns: int, timeout: float | None) -> int:
        """When a call ends that begins now."""
        if timeout is None:
            return now_ns + self.cluster.config.timing.call_timeout_ns
        return now_ns + int(timeout * 1e9)

    def whose(self) -> int:
        """The incarnation that sends now, if the application has not been told of it yet."""
        incarnation = self.cluster.incarnation
        return incarnation if incarnation != self._incarnation else 0

    async def waits(self, what: str, timeout: float | None, call: Awaitable[None]) -> None:
        """Await a call that has a deadline, and write down both its ends."""
        number, now_ns = self.next_number(), self.now_ns()
        self.write(Asked(now_ns, number, what, self.deadline_ns(now_ns, timeout)))
        try:
            await call
        except BaseException as error:
            self.write(Answered(self.now_ns(), number, type(error).__name__))
            raise
        self.write(Answered(self.now_ns(), number))

    # ------------------------------------------------------------------------------ barriers

    def arrived(self, name: str, timeout: float | None, *, cut: bool, payload: bytes = b"") -> int:
        """For `RecordedBarriers`: the application is about to wait; returns the ticket."""
        ticket, now_ns = self.next_number(), self.now_ns()
        deadline_ns = self.deadline_ns(now_ns, timeout)
        whose = self.whose()
        self.write(Arrived(now_ns, ticket, name, deadline_ns, cut, cut, whose, payload))
        return ticket

    def returned(
        self,
        ticket: int,
        name: str,
        verdict: str,
        *,
        generation: Position | None = None,
        position: Position | None = None,
        parties: tuple[Member, ...] = (),
        payloads: Mapping[int, bytes] | None = None,
        token: Position | None = None,
    ) -> None:
        """For `RecordedBarriers`: the wait is over."""
        brought = dict(payloads or {})
        self.write(
            Returned(
                self.now_ns(), ticket, name, verdict, generation, position, parties, brought, token
            )
        )


def _clock() -> str:
    """Names this machine's clock since it was booted."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = f"unknown, process {os.getpid()}"
    return f"monotonic of {boot}"
