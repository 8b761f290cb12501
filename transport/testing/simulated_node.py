"""One host in virtual time: a disk, a clock, and a process that may be frozen, killed, restarted.

Each incarnation leaves a `Life` behind: what its application was told, what it sent, and when it
held a lease. Checkers read nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from .. import wire
from ..config import MS
from ..core.endpoint import Endpoint
from ..core.founding import forced, taken_back, without_memory
from ..core.outputs import RecordLost, StreamItem
from ..core.parts import Start
from ..drivers.simulated_datagrams import SimulatedDatagrams
from ..drivers.simulator import SimulatedDriver
from ..errors import RecordUnusable
from ..events import Evicted, Lane, Member, View, ViewId, ViewInstalled
from ..layers import Layer
from ..pump import Pump
from .simulated_application import ApplicationId, SimulatedApplication
from .simulated_lifelines import SimulatedLifelines

if TYPE_CHECKING:
    from .simulation import Simulation

FSYNC_NS = 1 * MS
FOR_EVER_NS = 1 << 62
_Item = TypeVar("_Item")


class ProcessEnded(Exception):
    """Raised by a `Network.tap`: the process dies instead of sending this frame."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that an application sent, and that was accepted."""

    lane: Lane
    addressee: int
    payload: bytes
    token: int
    place: int
    """How much of its history the application knew then."""
    at_ns: int
    channel: str = ""
    safe: bool = False


class Act(NamedTuple):
    """A time in which an incarnation held the lease of a view: it might act."""

    view_id: ViewId
    from_ns: int
    until_ns: int


@dataclass(slots=True)
class Life:
    """What one incarnation of one node was told and did; times are the simulation's."""

    member: Member
    started_ns: int
    history: list[tuple[int, object]] = field(default_factory=list[tuple[int, object]])
    """Everything that its core put out, and what tests note there themselves."""
    sent: list[Sent] = field(default_factory=list[Sent])
    acts: list[Act] = field(default_factory=list[Act])
    frozen: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """From when to when it was stopped."""
    ended_ns: int | None = None
    """When it was killed, or made way for the next incarnation."""
    counters: Counter[str] = field(default_factory=Counter[str])
    over: Evicted | RecordLost | None = None
    """What ended it, if the cluster did."""
    founding: int = 0
    """The era that the operator had it found when it began; 0 for none."""
    rails: tuple[str, ...] = ()
    """Names of all rails of the cluster."""
    application: ApplicationId | None = None
    """Whose node it is; the same as that of the incarnation before in the same process."""

    def acting(self, view_id: ViewId | None, now_ns: int, until_ns: int) -> None:
        """After a turn: it holds the lease of this view so long, or none."""
        last = self.acts[-1] if self.acts else None
        if last is not None and last.until_ns > now_ns:
            if last.view_id == view_id:
                self.acts[-1] = last._replace(until_ns=until_ns)
                return
            self.acts[-1] = last._replace(until_ns=now_ns)
        if view_id is not None:
            self.acts.append(Act(view_id, now_ns, until_ns))


class SimulatedDisk:
    """A record file: one write at a time, the newest wins, durable one fsync after it began."""

    def __init__(self, node: SimulatedNode) -> None:
        self._node = node
        self._waiting: tuple[int, bytes] | None = None
        self._writing: tuple[int, bytes] | None = None
        self.content: bytes | None = None
        self._copies: list[bytes] = []
        """What was written first by each incarnation."""
        self.delay_ns = FSYNC_NS
        self.failing = False
        """Full, or read-only: every write fails."""

    def store(self, token: int, data: bytes) -> None:
        """Make a record durable; older ones not yet begun are moot."""
        self._waiting = (token, data)
        if self._writing is None:
            self._next()

    def _next(self) -> None:
        self._writing, self._waiting = self._waiting, None
        if self._writing is not None:
            life = self._node.life
            self._node.simulation.network.after(self.delay_ns, lambda: self._done(life))

    def _done(self, life: Life) -> None:
        if self._writing is None or life.ended_ns is not None:
            return
        token, data = self._writing
        if not self.failing:
            self.content = data
        self._node.stored(token, failed=self.failing)
        self._next()

    def power_off(self) -> None:
        """The process is gone: a write that was under way is done or not, as chance has it."""
        lucky = self._node.simulation.network.random.random() < 0.5
        if self._writing is not None and not self.failing and lucky:
            self.content = self._writing[1]
        self._writing = self._waiting = None

    def lose(self) -> None:
        """Somebody deletes the file."""
        self.content = None

    def write_first(self, data: bytes) -> None:
        """A process begins: its incarnation is durable before anything else."""
        self.content = data
        self._copies.append(data)

    def roll_back(self, starts: int = 1) -> None:
        """Somebody restores a copy from before the last incarnations began, if there is one."""
        del self._copies[-starts:]
        self.content = self._copies[-1] if self._copies else None

    def tear(self) -> None:
        """The file is damaged in a way that its checksum finds."""
        self.content = b"torn"


class SimulatedNode:
    """One host with its disk and its clock, and the process that runs on it now and then."""

    def __init__(self, simulation: Simulation, node: int) -> None:
        self.simulation = simulation
        self.id = node
        self.disk = SimulatedDisk(self)
        self.clock_rate = 1.0
        """Seconds of this host's clock in a second; two hosts may differ by `Timing.drift`."""
        self.clock_offset_ns = 0
        self.nonce = 0
        self.running = False
        self.frozen = False
        self.life = Life(Member(node, 0), 0)
        """The current incarnation, or the last one."""
        self.pump: Pump | None = None
        self.driver: SimulatedDriver | None = None
        self.datagrams: SimulatedDatagrams | None = None
        self.lifelines: SimulatedLifelines | None = None
        self.layers: dict[str, Layer] = {}
        self.application: SimulatedApplication | None = None
        """It reads, and has state, if the simulation has such applications."""
        self._full: dict[Lane, set[object]] = {}
        """Whose queues are full, by lane."""
        self.latency_ns = 0
        """How long it takes the process to run once something is there for it."""
        self._wake_at = FOR_EVER_NS
        """When it wants to run next."""
        self._alarms: list[int] = []
        """When it will be looked at, the next time last; that is never later than it wants."""
        self._lease: tuple[View | None, int | None] = (None, None)
        """What its life says of its lease: in which view it acts, and until when by its clock."""

    # -------------------------------------------------------------------------------- life

    def start(self, *, readmit: bool = False, force: bool = False, at_least: int = 1) -> None:
        """Start a process: a new incarnation, durable before anything else.

        Args:
            readmit: come back as a node without memory, whatever the record is.
            force: found the cluster anew, with a majority that is started so.
            at_least: the lowest incarnation to take.

        Raises:
            RecordUnusable: the record is damaged, and neither is given.
        """
        assert not self.running, "a host runs one process"
        record = self._load(readmit=readmit, force=force)
        self.driver = SimulatedDriver(self.simulation.network, self.id, self.wake_soon)
        self.driver.open()
        traffic = self.simulation.config.traffic
        if traffic.datagrams:
            self.datagrams = SimulatedDatagrams(
                self.simulation.network, self.id, self.wake_soon, grouped=traffic.multicast
            )
            self.datagrams.open()
        self.running = True
        self.frozen = False
        self.application = None
        self._full.clear()
        self.layers = {
            name: make(self.simulation.config, self.id)
            for name, make in self.simulation.layers.items()
        }
        self._begin(record, at_least)

    def _load(self, *, readmit: bool, force: bool) -> wire.Record:
        name = self.simulation.config.name
        number = self.simulation.network.now_ns if force else 0
        record = empty = wire.Record(cluster=name, node=self.id, incarnation=number, voter=False)
        if self.disk.content is not None:
            found = wire.decode_record(self.disk.content)
            if found is None and not (readmit or force):
                raise RecordUnusable(f"the record of node {self.id} is damaged")
            record = found or empty
        if force:
            return forced(record)
        if readmit:
            return taken_back(record) if record.founding else empty
        return record

    def _begin(self, record: wire.Record, at_least: int, synced: ViewId = wire.NO_VIEW) -> None:
        simulation, driver = self.simulation, self.driver
        assert driver is not None, "the process runs"
        incarnation = max(record.incarnation + 1, at_least)
        record = msgspec.structs.replace(record, incarnation=incarnation)
        self.disk.write_first(wire.encode_record(record))
        self.nonce = simulation.network.random.randrange(1 << 62)
        founding = record.era if record.founding else 0
        self.life = Life(Member(self.id, incarnation), simulation.network.now_ns, founding=founding)
        self.life.rails = tuple(rail.name for rail in simulation.config.rails)
        simulation.lives.append(self.life)
        self.application = self.application or simulation.application_of(self)
        self.life.application = self.application.id if self.application is not None else None
        self.lifelines = SimulatedLifelines(self)
        endpoint = Endpoint(
            Start(
                config=simulation.config,
                node=self.id,
                incarnation=incarnation,
                nonce=self.nonce,
                record=record,
                config_hash="same",
                key_hashes={},
                rails=tuple(rail.name for rail in simulation.config.rails),
                now_ns=self.clock(),
                jitter=simulation.network.random.random,
                datagrams=self.datagrams is not None,
                datagram_rails=self.datagrams.present if self.datagrams is not None else (),
                group_rails=self.datagrams.group_rails if self.datagrams is not None else (),
                stateful=self.application is not None,
                synced=synced,
            )
        )
        endpoint.links.watch = partial(simulation.network.show, self.id)
        self.pump = Pump(
            endpoint=endpoint,
            driver=driver,
            lifelines=self.lifelines,
            datagrams=self.datagrams,
            disk=self.disk,
            layers=self.layers,
            peers=simulation.peers,
            sink=self._sink,
            clock=self.clock,
        )
        self._wake_at = FOR_EVER_NS
        self._alarms = []
        self._lease = (None, None)
        self._turn(self.pump.start)

    def begin_anew(self, *, at_least: int = 1, keep_record: bool = True) -> None:
        """The same process starts its next incarnation, as `Cluster` does to rejoin."""
        assert self.driver is not None, "the process runs"
        assert self.lifelines is not None, "the process runs"
        endpoint = self.endpoint
        record = endpoint.acceptor.record
        if not keep_record:
            record = without_memory(record)
        for link in endpoint.peers.links():
            if link > 0:
                self.driver.disconnect(link, abort=True)
        self.lifelines.reset()
        self._end_life()
        self._begin(record, at_least, endpoint.standing.synced)
        for lane, full in self._full.items():
            if full:  # Of which the new core knows nothing.
                self._freeze_lane(lane, frozen=True)

    def kill(self, *, ends_after_ns: int = 0) -> None:
        """SIGKILL: the kernel closes the lifelines, nobody else is told.

        With `ends_after_ns` the ends of the lifelines take so much longer to arrive.
        """
        assert self.driver is not None, "the process runs"
        assert self.lifelines is not None, "the process runs"
        self.lifelines.farewell(ends_after_ns)
        self._end_life()
        self.driver.crash()
        if self.datagrams is not None:
            self.datagrams.close()
            self.datagrams = None
        self.running = False
        self.lifelines = None
        self.pump = None

    def _end_life(self) -> None:
        now_ns = self.simulation.network.now_ns
        if self.frozen:
            self.thaw()
        self.life.ended_ns = now_ns
        self.life.acting(None, now_ns, now_ns)
        self.life.counters = self.endpoint.outputs.counters
        self.disk.power_off()

    def freeze(self) -> None:
        """SIGSTOP."""
        assert not self.frozen, "stopped already"
        now_ns = self.simulation.network.now_ns
        self.frozen = True
        self._lease = (None, None)
        self.life.acting(None, now_ns, now_ns)
        self.life.frozen.append((now_ns, FOR_EVER_NS))

    def thaw(self) -> None:
        """SIGCONT."""
        self.frozen = False
        self.life.frozen[-1] = (self.life.frozen[-1][0], self.simulation.network.now_ns)
        self.wake_soon()

    # ------------------------------------------------------------------------------ the pump

    def clock(self) -> int:
        """What this host's monotonic clock says, in nanoseconds."""
        return self.clock_offset_ns + int(self.simulation.network.now_ns * self.clock_rate)

    def _global(self, local_ns: int) -> int:
        return int((local_ns - self.clock_offset_ns) / self.clock_rate) + 1

    def wake_soon(self) -> None:
        """Something is there for the pump."""
        self._schedule(self.simulation.network.now_ns + self.latency_ns)

    def _schedule(self, at_ns: int) -> None:
        """Run at that time, unless it runs earlier already."""
        if self.running and at_ns < self._wake_at:
            self._wake_at = at_ns
            self._set_alarm()

    def _set_alarm(self) -> None:
        if not self._alarms or self._wake_at < self._alarms[-1]:
            self._alarms.append(self._wake_at)
            self.simulation.network.at(self._wake_at, partial(self._alarm, self.life))

    def _alarm(self, life: Life) -> None:
        if life is not self.life:
            return
        if self._wake_at > self._alarms.pop():
            self._set_alarm()  # It has run in the meantime, and wants to run again later.
            return
        self._wake_at = FOR_EVER_NS
        if self.running and not self.frozen and self.pump is not None:
            self._turn(self.pump.turn)

    def _turn(self, turn: Callable[[], int | None]) -> None:
        life, now_ns = self.life, self.simulation.network.now_ns
        try:
            deadline = turn()
        except ProcessEnded:
            self.kill()
            return
        self._note_lease(now_ns)
        for look in self.simulation.after_turn:
            look(self)
        if deadline is not None and life is self.life:
            self._schedule(self._global(deadline) if deadline > self.clock() else now_ns + 1)

    def _note_lease(self, now_ns: int) -> None:
        endpoint, clock = self.endpoint, self.clock()
        view = endpoint.view if endpoint.acting(clock) else None
        until = endpoint.leases.runs_out_ns(clock) if view is not None else None
        if (view, until) != self._lease:
            self._lease = (view, until)
            until_ns = FOR_EVER_NS if until is None else self._global(until)
            self.life.acting(view.id if view is not None else None, now_ns, until_ns)

    def stored(self, token: int, *, failed: bool) -> None:
        """A write to the disk is over."""
        if self.pump is not None:
            if failed:
                self.pump.endpoint.persist_failed()
            else:
                self.pump.endpoint.persisted(token)
            self.wake_soon()

    def _sink(self, item: StreamItem) -> None:
        self.life.history.append((self.simulation.network.now_ns, item))
        if isinstance(item, Evicted | RecordLost):
            self.life.over = item
        if self.application is not None:
            self.application.put(item)

    # ------------------------------------------------------------------------------- the face

    @property
    def endpoint(self) -> Endpoint:
        """The core of the running process."""
        assert self.pump is not None, "the process does not run"
        return self.pump.endpoint

    @property
    def history(self) -> list[tuple[int, object]]:
        """(time, item) for everything that came out of this incarnation's core."""
        return self.life.history

    @property
    def view(self) -> View | None:
        """The view installed by the running process."""
        return self.endpoint.view if self.pump is not None else None

    def send(
        self,
        payload: bytes,
        lane: Lane = Lane.FIFO,
        addressee: int = 0,
        *,
        channel: str = "",
        safe: bool = False,
    ) -> int:
        """Hand over a message; 0 if there was no room."""
        token = self.endpoint.submit(addressee, lane, channel.encode(), payload, safe=safe)
        if token:
            now_ns = self.simulation.network.now_ns
            place = len(self.life.history)
            sent = Sent(lane, addressee, payload, token, place, now_ns, channel, safe)
            self.life.sent.append(sent)
        self.wake_soon()
        return token

    def queue_full(self, owner: object, lane: Lane, *, full: bool) -> None:
        """A queue of an application is full, or has room again; the lane waits for all of them."""
        owners = self._full.setdefault(lane, set())
        before = bool(owners)
        (owners.add if full else owners.discard)(owner)
        if bool(owners) is not before:
            self._freeze_lane(lane, frozen=full)

    def _freeze_lane(self, lane: Lane, *, frozen: bool) -> None:
        if self.pump is not None:
            self.endpoint.freeze(lane, frozen=frozen, now_ns=self.clock())
            self.wake_soon()

    def note(self, item: object) -> None:
        """Put something into the history that the core did not say."""
        self.life.history.append((self.simulation.network.now_ns, item))

    def told(self, kind: type[_Item]) -> list[_Item]:
        """Items of one kind in this incarnation's history, in order."""
        return [item for _, item in self.life.history if isinstance(item, kind)]

    def views(self) -> list[View]:
        """Views of this incarnation, in order."""
        return [item.view for item in self.told(ViewInstalled)]
