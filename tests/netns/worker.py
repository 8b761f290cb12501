"""One node of the tests' clusters: `python -m netns.worker CONFIG NODE TIMEOUT HISTORY`.

It joins, writes its history, says every event but messages on standard output, and obeys the
commands on standard input; see `reports.py`. The end of its input ends it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import msgspec

from phalanx.barrier.cman import CmanBarriers
from phalanx.barrier.testing.recorder import RecordedBarriers
from phalanx.transport import (
    Batch,
    CarrierChanged,
    Cluster,
    Event,
    Evicted,
    EvictedError,
    MessageUndelivered,
    MulticastChanged,
    PathChanged,
    PeerRefused,
    PhalanxError,
    PrimaryLost,
    PrimaryRegained,
    Rejoined,
    ViewInstalled,
    config_file,
)
from phalanx.transport.testing.numbered import Number, make_message, number_of
from phalanx.transport.testing.recorder import Recorder

from .attending import arrived, attend, attend_all, call_cman, note_error, note_release
from .dying import DyingDrivers
from .publishing import OpenChannel
from .reports import (
    Answer,
    Arrived,
    Burst,
    Close,
    Cman,
    Command,
    DieAt,
    Halt,
    Leave,
    Line,
    Look,
    Meet,
    MeetAtAll,
    Meetings,
    Open,
    Order,
    PathWanted,
    Publish,
    PublishOn,
    Reach,
    ReadTo,
    Received,
    Refusals,
    Seen,
    Still,
    Stream,
    TurnPage,
)

BURST_MAX = 64
"""Messages that a stream which is late sends in one go before others get their turn."""

_encoder = msgspec.json.Encoder()
_commands = msgspec.json.Decoder(Command)


def say(line: Line) -> None:
    """Write one line, at once."""
    sys.stdout.buffer.write(_encoder.encode(line) + b"\n")
    sys.stdout.buffer.flush()


class Worker:
    """The tasks of one node and what they have seen."""

    def __init__(self, recorder: Recorder, drivers: DyingDrivers) -> None:
        self._cluster: Cluster = recorder.cluster
        self._recorder = recorder
        self._barriers = RecordedBarriers(recorder)
        self._channels: dict[str, OpenChannel] = {}
        self._drivers = drivers
        self._node = self._cluster.node_id
        self._received: dict[Number, Received] = {}
        """By the number 0 of each stream."""
        self._members: Mapping[int, int] = {}
        self._sent: dict[tuple[int, int], int] = {}
        self._streams: list[asyncio.Task[None]] = []
        self._refusals: dict[str, Refusals] = {}
        self._accept_ns_max = 0
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving = asyncio.Event()

    # ----------------------------------------------------------------------------- receiving

    async def read(self) -> None:
        """Take everything that comes, until the stream ends."""
        try:
            async for event in self._recorder.batches():
                self._take(event)
        except EvictedError as error:
            say(Seen(kind="EvictedError", at_ns=time.monotonic_ns(), text=str(error)))

    def _take(self, event: Batch | Event) -> None:
        now_ns = time.monotonic_ns()
        if isinstance(event, Batch):
            for payload in event.payloads:
                self._count(payload)
        else:
            say(self._seen(event, now_ns))
        for item in list(self._waiting):
            if item[0]() and not item[1].done():
                item[1].set_result(None)

    def _count(self, payload: bytes) -> None:
        said = number_of(payload)
        if said is None:
            return  # The history has it, and its checkers will say that nobody has sent it.
        stream, number = said._replace(number=0), said.number
        received = self._received.get(stream)
        if received is None:
            received = self._received[stream] = Received(first=number, last=number, count=0)
        received.last = max(received.last, number)
        received.count += 1

    def _last(self, sender: int, *, directed: bool) -> int:
        """Number of the last message delivered of the sender's current incarnation."""
        to = self._node if directed else 0
        received = self._received.get(Number(sender, self._members.get(sender, 0), to, 0))
        return received.last if received is not None else 0

    def _marks(self) -> dict[str, int]:
        return {
            f"{stream.node}.{stream.incarnation}": received.last
            for stream, received in self._received.items()
            if not stream.to
        }

    def _seen(self, event: Event, now_ns: int) -> Seen:
        seen = Seen(kind=type(event).__name__, at_ns=now_ns)
        match event:
            case ViewInstalled(view=view, joined=joined, left=left):
                seen.view = (view.id.era, view.id.k)
                seen.members = {member.node: member.incarnation for member in view.incarnations}
                seen.joined, seen.left = list(joined), dict(left)
                seen.marks = self._marks()
                self._installed(seen.members, joined)
            case PathChanged(peer=peer, rail=rail, state=state, primary=primary):
                seen.peer, seen.rail = peer, rail
                seen.state, seen.primary = state.value, primary
            case CarrierChanged(peer=peer, multicast=multicast, reason=reason):
                seen.peer, seen.text = peer, reason
                seen.state = "multicast" if multicast else "sctp"
            case MulticastChanged(peer=peer, rail=rail, arrives=arrives):
                seen.peer, seen.rail = peer, rail
                seen.state = "arrives" if arrives else "does not arrive"
            case Evicted(view_id=view_id) | PrimaryRegained(view_id=view_id):
                seen.view = (view_id.era, view_id.k)
            case PrimaryLost(view_id=view_id, reachable=reachable):
                seen.view, seen.text = (view_id.era, view_id.k), str(reachable)
            case Rejoined(incarnation=incarnation):
                seen.text = str(incarnation)
            case PeerRefused(peer=peer, reason=reason):
                seen.peer, seen.text = peer, reason
            case MessageUndelivered(missing=missing):
                seen.left = dict(missing)
            case _:
                seen.text = repr(event)
        return seen

    def _installed(self, members: Mapping[int, int], joined: Collection[int]) -> None:
        """What a newcomer has of the others, and they of it, begins anew."""
        self._members = dict(members)
        for node in members if self._node in joined else joined:
            for stream in [stream for stream in self._received if stream.node == node]:
                del self._received[stream]

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Return when something that came has made the condition true."""
        if condition():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        item = (condition, future)
        self._waiting.append(item)
        try:
            await future
        finally:
            self._waiting.remove(item)

    # ------------------------------------------------------------------------------- sending

    async def _send_one(
        self,
        order: Stream | Burst,
        *,
        wait: bool,
        timeout: float | None = None,
        held: bool = False,
    ) -> None:
        to = order.to
        incarnation = self._cluster.incarnation
        number = self._sent.get((incarnation, to), 0) + 1
        message = make_message(self._node, incarnation, number, order.size, to=to)
        before_ns = time.monotonic_ns()
        # Only one task sends to each addressee at a time, so that numbers are in order.
        try:
            if to:
                receipt = await self._recorder.send(to, message, wait=wait, timeout=timeout)
            else:
                receipt = await self._recorder.multicast(
                    message, lane=order.lane, wait=wait, timeout=timeout
                )
        except asyncio.CancelledError:
            # It may have been accepted: its number is used.
            self._sent[incarnation, to] = number
            raise
        self._accept_ns_max = max(self._accept_ns_max, time.monotonic_ns() - before_ns)
        self._sent[incarnation, to] = number
        if held:
            await receipt.held(timeout=timeout)

    async def _stream(self, order: Stream) -> None:
        start_ns, done = time.monotonic_ns(), 0
        while True:
            due = int((time.monotonic_ns() - start_ns) * order.rate / 1e9) - done
            for _ in range(min(due, BURST_MAX)):
                done += 1
                try:
                    await self._send_one(order, wait=order.wait)
                except PhalanxError as error:
                    self._refused(error)
            ahead_s = (start_ns + (done + 1) * 1e9 / order.rate - time.monotonic_ns()) / 1e9
            # It is the rate that is asked for, and nothing that is waited for.
            await asyncio.sleep(max(0.0, ahead_s))

    def _refused(self, error: PhalanxError) -> None:
        now_ns = time.monotonic_ns()
        name = type(error).__name__
        refusals = self._refusals.get(name)
        if refusals is None:
            refusals = Refusals(count=0, first_ns=now_ns, last_ns=now_ns)
            self._refusals[name] = refusals
        refusals.count += 1
        refusals.last_ns = now_ns

    async def _halt(self) -> None:
        for stream in self._streams:
            stream.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)
        self._streams.clear()

    def _sent_to(self, to: int) -> int:
        return self._sent.get((self._cluster.incarnation, to), 0)

    # ------------------------------------------------------------------------------ commands

    async def obey(self) -> None:
        """Start a task for each command, until the input ends or the order to leave comes."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            task = asyncio.ensure_future(self._answer(_commands.decode(line)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._leaving.set()

    async def stay(self) -> None:
        """Return when it is time to leave."""
        await self._leaving.wait()

    async def _answer(self, command: Command) -> None:
        answer = Answer(number=command.number, at_ns=0)
        try:
            await self._do(command.order, answer)
        except (PhalanxError, TimeoutError) as error:
            note_error(answer, error)
        answer.at_ns = answer.at_ns or time.monotonic_ns()
        say(answer)

    async def _do(self, order: Order, answer: Answer) -> None:
        match order:
            case Stream():
                self._streams.append(asyncio.ensure_future(self._stream(order)))
            case Halt():
                await self._halt()
                answer.sent = self._sent_to(0)
            case Burst():
                for left in range(order.count - 1, -1, -1):
                    await self._send_one(
                        order,
                        wait=True,
                        timeout=order.timeout_s,
                        held=order.held and not left,
                    )
                answer.sent = self._sent_to(order.to)
            case Reach(sender=sender, number=number, directed=directed):
                await self._until(lambda: self._last(sender, directed=directed) >= number)
            case PathWanted():
                await self._until(lambda: self._path_is(order))
            case Meet():
                await self._meet(order, answer)
            case MeetAtAll():
                await attend_all(self._barriers, order, answer)
            case Arrived():
                await arrived(self._barriers, order)
            case Cman():
                answer.codes = await call_cman(CmanBarriers(self._cluster), order)
            case Meetings():
                self._streams.append(asyncio.ensure_future(self._meet_again(order)))
            case Open() | Publish() | PublishOn() | ReadTo() | Close():
                await self._use_channel(order, answer)
            case Still():
                await self._recorder.all_settled()
            case TurnPage(path=path):
                self._recorder.turn_page(path)
            case DieAt(kinds=kinds):
                self._drivers.die_at(kinds)
            case Look():
                self._look(answer)
            case Leave():
                await self._halt()
                await self._cluster.leave()
                self._leaving.set()

    async def _use_channel(
        self, order: Open | Publish | PublishOn | ReadTo | Close, answer: Answer
    ) -> None:
        name = order.channel
        if isinstance(order, Open):
            user = self._channels[name] = OpenChannel(self._recorder, name)
            position = await user.channel.opened()
            answer.position = (position.era, position.k, position.index)
            return
        user = self._channels[name]
        match order:
            case Publish():
                await user.publish(order, answer)
            case PublishOn():
                publishing = user.publish_on(order, self._refused)
                self._streams.append(asyncio.ensure_future(publishing))
            case ReadTo():
                await user.read_to(order, answer)
            case Close():
                await self._channels.pop(name).close()

    def _path_is(self, wanted: PathWanted) -> bool:
        path = self._cluster.paths.get(wanted.peer, {}).get(wanted.rail)
        return path is not None and (path.state.value, path.primary) == (
            wanted.state,
            wanted.primary,
        )

    async def _meet(self, order: Meet, answer: Answer) -> None:
        for _ in range(order.before):
            await self._send_one(Burst(count=1), wait=True)
        answer.sent = self._sent_to(0)
        release = await attend(self._barriers, order, answer)
        answer.at_ns = time.monotonic_ns()
        # What the barrier promises can be had without waiting: look before anything else runs.
        for event in self._recorder.take_ready_batches():
            self._take(event)
        answer.marks = self._marks()
        note_release(answer, release)

    async def _meet_again(self, order: Meetings) -> None:
        while True:
            try:
                await self._barriers.wait(order.name, timeout=order.timeout_s)
            except PhalanxError as error:
                self._refused(error)
            # An application does something between two meetings; nothing is waited for here.
            await asyncio.sleep(order.pause_s)

    def _look(self, answer: Answer) -> None:
        answer.sent = self._sent_to(0)
        answer.received = {
            f"{stream.node}.{stream.incarnation}{'>' if stream.to else ''}": received
            for stream, received in self._received.items()
        }
        answer.marks = self._marks()
        answer.refusals, self._refusals = self._refusals, {}
        answer.accept_ns_max, self._accept_ns_max = self._accept_ns_max, 0
        answer.primary = self._cluster.primary
        answer.incarnation = self._cluster.incarnation
        answer.stats = self._cluster.stats()
        with open("/proc/self/statm", encoding="ascii") as file:
            answer.rss_bytes = int(file.read().split()[1]) * resource.getpagesize()
        # One of them is the listing itself.
        answer.descriptors = len(os.listdir("/proc/self/fd")) - 1


async def run(config: str, node: str, timeout: float, history: str) -> None:
    """The whole life of the process."""
    loaded = config_file.load(Path(config))
    drivers = DyingDrivers(loaded)
    async with Cluster.join(
        loaded, node=node, timeout=timeout, rejoin=True, drivers=drivers
    ) as cluster:
        recorder = Recorder(cluster, history)
        worker = Worker(recorder, drivers)
        # What was imported lives for ever: the collector need not look at it again and again.
        gc.freeze()
        reading = asyncio.ensure_future(worker.read())
        obeying = asyncio.ensure_future(worker.obey())
        staying = asyncio.ensure_future(worker.stay())
        done, _ = await asyncio.wait(
            {obeying, staying, reading}, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            task.result()  # a task that failed ends the process with its traceback
        for task in (obeying, staying):
            task.cancel()
    await reading


def main() -> int:
    """Entry point of the process."""
    config, node, timeout, history = sys.argv[1:5]
    try:
        asyncio.run(run(config, node, float(timeout), history))
    except PhalanxError as error:
        kind = type(error).__name__
        say(Seen(kind="Failed", at_ns=time.monotonic_ns(), state=kind, text=str(error)))
        return 1
    except BrokenPipeError:
        # Nobody reads any more; keep the interpreter from complaining when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
