"""A node in a process: its record, its drivers, and one core after another, under asyncio.

Everything that is I/O is put together here; `Cluster` is the face of it. Nothing is decided: the
core decides, and when it says that this incarnation is over, the next one is built.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from . import layers as layer_registry
from . import wire
from .config import ClusterConfig, NodeConfig
from .config_file import config_hash, config_key_hashes
from .core.endpoint import Endpoint
from .core.founding import forced, taken_back, without_memory
from .core.outputs import StreamItem
from .core.parts import Start
from .discovery import Discovery, configured_peers
from .driver_factory import DriverFactory, RealDrivers
from .drivers.base import Datagrams, Driver, LocalEndpoint, PeerEndpoint
from .drivers.lifelines import LifelineEnded, Lifelines, LifelineUp
from .errors import RecordUnusable
from .events import RecordUnwritable, ViewId
from .layers import Layer
from .pump import DATAGRAMS, FRAMES, LIFELINES, NOWHERE, Pump
from .record_file import RecordFile, state_directory
from .spinning import Spinning
from .waking import Waking
from .writer import Writer

CLOCK: Final = time.CLOCK_BOOTTIME
"""Counts the time in which the machine was suspended: leases run out in it too."""
PATIENCE_MAX_NS: Final = 2_000_000
"""So much later than asked for a node wakes itself, if nothing else does."""


_clock_ns: Final = time.clock_gettime_ns


def now_ns() -> int:
    """The clock of every core, in nanoseconds."""
    return _clock_ns(CLOCK)


class _LifelineSide:
    """Lifelines as the pump wants them."""

    def __init__(self, lifelines: Lifelines, rails: tuple[str, ...]) -> None:
        self._lifelines = lifelines
        self._rails = rails

    def feed(self, endpoint: Endpoint, now_ns: int) -> None:
        for notice in self._lifelines.poll():
            if isinstance(notice, LifelineUp):
                endpoint.lifeline_up(notice.peer, notice.rail, notice.incarnation, notice.nonce)
            elif isinstance(notice, LifelineEnded):
                endpoint.lifeline_ended(
                    notice.peer,
                    notice.rail,
                    notice.incarnation,
                    notice.nonce,
                    fin=notice.fin,
                    now_ns=now_ns,
                )
        self._lifelines.expire(now_ns)

    def connect(self, peer: int, rail: str, address: str, port: int) -> None:
        self._lifelines.connect(peer, rail, address, port)

    def drop(self, peer: int) -> None:
        for rail in self._rails:
            self._lifelines.drop(peer, rail)

    def farewell(self) -> None:
        self._lifelines.farewell()


class Runtime:
    """Runs one node; belongs to one event loop."""

    def __init__(
        self,
        config: ClusterConfig,
        node: NodeConfig,
        *,
        sink: Callable[[StreamItem], None],
        failed: Callable[[BaseException], None],
        turned: Callable[[], None],
        drivers: DriverFactory | None = None,
        stateful: bool = False,
    ) -> None:
        self.config = config
        self.node = node
        self.incarnation = 0
        self.layers: Mapping[str, Layer] = {
            name: make(config, node.id) for name, make in layer_registry.registered().items()
        }
        self._drivers: DriverFactory = drivers or RealDrivers(
            frozenset(rail.name for rail in config.rails if rail.lifeline)
        )
        self._stateful = stateful
        self._sink = sink
        self._failed = failed
        self._turned = turned
        self._loop = asyncio.get_running_loop()
        self._file = RecordFile(state_directory(config), node.name, cluster=config.name)
        self._disk = Writer("phalanx-record")
        self._driver: Driver | None = None
        self._datagrams: Datagrams | None = None
        self.discovery: Discovery | None = None
        self._peers = configured_peers(config, node)
        """Where the others are, as far as that is known."""
        self._lifelines: Lifelines | None = None
        self._local: LocalEndpoint | None = None
        self.pump: Pump | None = None
        self.waking = Waking(self._loop)
        self._spinning = Spinning(self._loop, config.timing.spin_us)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self.patience_ns = min(PATIENCE_MAX_NS, config.timing.heartbeat_ns // 25)
        self._soon = False
        self._hurried = False
        """The pump has turned at once for somebody since the event loop last turned it."""
        self._turning = False
        self._taking = self._more = False
        """The second half of the turn is to come; and somebody has asked for something in it."""
        self._whole, self._rest = self._turn_once, self._put_out  # bound once
        self._readers: list[int] = []
        self._to_store: tuple[int, bytes] | None = None
        self._storing = False
        self._record_trouble = ""

    # ---------------------------------------------------------------------------- beginnings

    def open(self, *, readmit: bool, force: bool) -> None:
        """Take the node's place on this machine and open its drivers.

        Raises:
            StateDirLocked, RecordUnusable, PortTaken, AddressMissing, DriverUnavailable.
        """
        self._file.lock()
        self._local = self._drivers.local(self.config, self.node)
        driver = self._drivers.driver(self.config, self._local)
        driver.open()
        self._driver = driver
        self._watch(driver.fileno(), FRAMES)
        self._open_datagrams(self._local)
        if self._local.beacons:
            self.discovery = Discovery(
                self.config,
                self.node,
                self._local,
                clock=now_ns,
                found=self._found,
                refused=self._sink,
            )
            self.discovery.open()
        record = self._load(readmit=readmit or force)
        if force:
            record = forced(record)
        elif readmit and record.founding:
            record = taken_back(record)
        self.begin(record)

    def _open_datagrams(self, local: LocalEndpoint) -> None:
        datagrams = self._drivers.datagrams(self.config, local, self._peers)
        if datagrams is not None:
            datagrams.open()
            self._datagrams = datagrams
            self._watch(datagrams.fileno(), DATAGRAMS)

    def _found(self, peer: PeerEndpoint) -> None:
        self._peers[peer.node] = peer
        if self._datagrams is not None:
            self._datagrams.learn(peer)

    def _load(self, *, readmit: bool) -> wire.Record:
        """The record of the incarnation before, or an empty one that may not vote.

        With `readmit` the operator knows that it is lost. Whoever remembers the last incarnation
        may be lost as well; no node is started once a second for ever, so that the time is above.
        """
        number = int(time.time()) if readmit else 0
        fresh = wire.Record(
            cluster=self.config.name, node=self.node.id, incarnation=number, voter=False
        )
        try:
            data = self._file.load()
        except RecordUnusable:
            if readmit:
                return fresh
            raise
        if data is None:
            return fresh
        record = wire.decode_record(data)
        mine = (self.config.name, self.node.id)
        if record is not None and (record.cluster, record.node) == mine:
            return record
        if readmit:
            return fresh
        if record is None:
            raise self._file.useless(
                "cannot be decoded (another version of phalanx wrote it, or it is damaged)"
            )
        raise RecordUnusable(
            f'{self._file.path} belongs to cluster "{record.cluster}", node {record.node}, and '
            f'this is cluster "{mine[0]}", node {mine[1]}; correct id or state_dir in the cluster '
            "file, or start with --readmit (in the API readmit=True) to write over it"
        )

    def begin(self, before: wire.Record, *, at_least: int = 0) -> None:
        """Start the next incarnation; its number is durable before anything is sent."""
        assert self._driver is not None, "open() comes first"
        assert self._local is not None, "open() comes first"
        self.incarnation = max(before.incarnation + 1, at_least)
        record = msgspec.structs.replace(before, incarnation=self.incarnation)
        # Through the one thread that writes: after a store that is under way, never beside it.
        self._disk.submit(self._file.store, wire.encode_record(record)).result()
        nonce = secrets.randbits(62)
        missing = self._datagrams.missing_rails if self._datagrams is not None else ()
        datagram_rails = tuple(r.name for r in self.config.rails if r.name not in missing)
        endpoint = Endpoint(
            Start(
                config=self.config,
                node=self.node.id,
                incarnation=self.incarnation,
                nonce=nonce,
                record=record,
                config_hash=config_hash(self.config),
                key_hashes=config_key_hashes(self.config),
                rails=tuple(rail.name for rail in self.config.rails),
                now_ns=now_ns(),
                jitter=random.random,
                datagrams=self._datagrams is not None,
                datagram_rails=datagram_rails,
                group_rails=self._datagrams.group_rails if self._datagrams is not None else (),
                stateful=self._stateful,
                # The application is the same: it still has what it had.
                synced=self.endpoint.standing.synced if self.pump is not None else wire.NO_VIEW,
            )
        )
        side: _LifelineSide | None = None
        self._lifelines = self._drivers.lifelines(
            self._local,
            cluster=endpoint.framer.cluster,
            incarnation=self.incarnation,
            nonce=nonce,
        )
        if self._lifelines is not None:
            self._open_lifelines(self._lifelines)
            # A farewell that lies there is read before the end of the lifeline that says less.
            self._watch(self._lifelines.fileno(), FRAMES | LIFELINES)
            side = _LifelineSide(self._lifelines, tuple(self._local.networks))
        self.pump = Pump(
            endpoint=endpoint,
            driver=self._driver,
            lifelines=side,
            datagrams=self._datagrams,
            disk=self,
            layers=self.layers,
            peers=self._peers,
            sink=self._sink,
            clock=now_ns,
            sink_entries=False,
        )
        self._turn(self.pump.start)

    def begin_anew(self, *, at_least: int = 0, keep_record: bool = True) -> None:
        """This incarnation is over: forget its associations and start the next one."""
        assert self.pump is not None, "an incarnation runs"
        assert self._driver is not None, "an incarnation runs"
        record = self.pump.endpoint.acceptor.record
        if not keep_record:
            record = without_memory(record)
        for link in self.pump.endpoint.peers.links():
            if link > 0:
                self._driver.disconnect(link, abort=True)
        self._drop_lifelines()
        self._to_store = None
        self.begin(record, at_least=at_least)

    def _open_lifelines(self, lifelines: Lifelines) -> None:
        try:
            lifelines.open()
        except BaseException:
            # What did not open has no descriptor to be unwatched.
            self._lifelines = None
            raise

    def lifeline_stats(self) -> dict[str, int]:
        """Counters of the lifelines of this incarnation."""
        return self._lifelines.stats() if self._lifelines is not None else {}

    def datagram_stats(self) -> dict[str, int]:
        """Counters of the datagrams since the node was started."""
        return self._datagrams.stats() if self._datagrams is not None else {}

    def _drop_lifelines(self) -> None:
        if self._lifelines is not None:
            self._unwatch(self._lifelines.fileno())
            self._lifelines.close()
            self._lifelines = None

    # ------------------------------------------------------------------------------- the pump

    @property
    def endpoint(self) -> Endpoint:
        """The core of the current incarnation."""
        assert self.pump is not None, "an incarnation runs"
        return self.pump.endpoint

    @property
    def driver(self) -> Driver:
        """The driver of all incarnations."""
        assert self._driver is not None, "open() comes first"
        return self._driver

    def state_wanted(self, view_id: ViewId) -> bool:
        """For `StateHooks`: whether others still need the application's state."""
        return self.pump is not None and self.endpoint.state_wanted(view_id)

    def give_state(self, view_id: ViewId, state: bytes) -> None:
        """For `StateHooks`: the application's state as of a view."""
        if self.pump is not None:
            self.endpoint.give_state(view_id, state)
            self.kick()

    def synced(self, view_id: ViewId) -> None:
        """For `StateHooks`: the application has taken in the state of a view."""
        if self.pump is not None:
            self.endpoint.synced(view_id)
            self.kick()

    def kick(self) -> None:
        """Turn the pump soon; calls in one turn of the event loop are one."""
        if self._taking:
            self._more = True
        elif not self._soon:
            self._soon = True
            self._loop.call_soon(self._kicked)

    def hurry(self) -> None:
        """Turn the pump at once, for somebody waits; but what many want in a row is one turn."""
        if self._taking or self._hurried or self._soon or self._turning:
            self.kick()
        elif self.pump is not None:
            self._hurried = True
            self._turn(self._whole)

    def _kicked(self) -> None:
        self._soon = False
        self._readable(NOWHERE)

    def _timed(self) -> None:
        self._timer = None
        self._readable(NOWHERE)

    def _readable(self, where: int) -> None:
        """A turn; whoever is woken by its first half goes on before the second."""
        pump = self.pump
        if pump is None:
            return
        self._hurried = self._more = False
        self._taking = True
        try:
            self.waking.begin()
            try:
                self._take_in(pump, where)
            finally:
                self.waking.end()
        finally:
            taking, self._taking = self._taking, False
            if pump is not self.pump:
                if self._more:
                    self.kick()
            elif taking and (self._more or not pump.idle):
                self._turn(self._rest)

    def _take_in(self, pump: Pump, where: int) -> None:
        try:
            pump.take_in(where)
        except Exception as error:  # a defect, which ends this cluster and not its event loop
            self._taking = False  # and there is no second half
            self._failed(error)
            return
        if not pump.idle:
            self._spinning.renew()
            self._turned()

    def _turn_once(self) -> int | None:
        return self.pump.turn(NOWHERE) if self.pump is not None else None

    def _put_out(self) -> int | None:
        return self.pump.put_out(more=self._more) if self.pump is not None else None

    def _turn(self, turn: Callable[[], int | None]) -> None:
        self._turning = True
        try:
            deadline = turn()
        except Exception as error:  # as above
            self._failed(error)
            return
        finally:
            self._turning = False
        if deadline is not None:
            self._be_woken_at(deadline)
        self._spinning.renew()
        self._turned()

    def _be_woken_at(self, deadline_ns: int) -> None:
        """A little later: in a turn that comes before it costs nothing to do what is due.

        An earlier timer stays, unless what it was for is done: to be woken early costs less than
        to set timers in each turn.
        """
        at_ns = deadline_ns + self.patience_ns
        if self._timer is not None:
            if self._timer_ns <= at_ns and not (self.pump is not None and self.pump.due):
                return
            self._timer.cancel()
        self._timer_ns = at_ns
        current_ns = now_ns()
        delay = (at_ns - current_ns) / 1e9 if deadline_ns > current_ns else 0.0
        self._timer = self._loop.call_later(delay, self._timed)

    def _watch(self, descriptor: int, what: int) -> None:
        self._loop.add_reader(descriptor, self._readable, what)
        self._readers.append(descriptor)

    def _unwatch(self, descriptor: int) -> None:
        if descriptor in self._readers:
            self._readers.remove(descriptor)
            self._loop.remove_reader(descriptor)

    # -------------------------------------------------------------------------------- the disk

    def store(self, token: int, data: bytes) -> None:
        """Make the newest record durable off the event loop; older ones not yet begun are moot."""
        self._to_store = (token, data)
        if not self._storing:
            self._store_next()

    def _store_next(self) -> None:
        if self._to_store is None or self.pump is None:
            return
        (token, data), self._to_store = self._to_store, None
        self._storing = True
        endpoint = self.pump.endpoint
        future = self._loop.run_in_executor(self._disk, self._file.store, data)
        future.add_done_callback(lambda done: self._stored(endpoint, token, done))

    def _stored(self, endpoint: Endpoint, token: int, done: asyncio.Future[None]) -> None:
        self._storing = False
        if done.cancelled():
            return
        error = done.exception()
        if self.pump is not None and endpoint is self.pump.endpoint:
            if error is None:
                endpoint.persisted(token)
                self._record_trouble = ""
            elif isinstance(error, RecordUnusable):
                if str(error) != self._record_trouble:
                    self._record_trouble = str(error)
                    self._sink(RecordUnwritable(reason=str(error)))
                endpoint.persist_failed()
            else:
                self._failed(error)
            self.kick()
        self._store_next()

    # --------------------------------------------------------------------------------- endings

    def close(self) -> None:
        """Free everything; links that are still there are aborted. Idempotent."""
        self.pump = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drop_lifelines()
        if self.discovery is not None:
            self.discovery.close()
            self.discovery = None
        if self._datagrams is not None:
            self._unwatch(self._datagrams.fileno())
            self._datagrams.close()
            self._datagrams = None
        if self._driver is not None:
            self._unwatch(self._driver.fileno())
            self._driver.close()
            self._driver = None
        self._disk.shutdown(wait=True)
        self._file.close()
