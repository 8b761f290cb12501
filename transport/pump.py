"""One turn of the wheel: inputs into the core, the stream through the layers, outputs to drivers.

The same pump turns under asyncio (`Cluster`), in virtual time (the simulator) and in tests. It
does no waiting: whoever owns it calls `turn` when a driver has something, when the deadline that
`turn` returned has come, or when there is something to send. Under asyncio a turn has two halves,
between which those go on who have waited for what the first one brought.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from .core.endpoint import Endpoint
from .core.outputs import (
    CloseLifelines,
    Command,
    Connect,
    ConnectLifeline,
    Delivered,
    Disconnect,
    DropLifelines,
    Ordered,
    Persist,
    SetPrimary,
    Stable,
    StreamItem,
    Transmit,
    Unison,
)
from .core.postponing import may_settle_later
from .core.udp_links import UdpLinks
from .drivers.base import Datagram, Datagrams, Driver, PeerEndpoint, Received
from .events import Evicted, Lane, Position, PrimaryLost, ViewInstalled
from .layers import DirectingLayer, Layer, UnisonLayer

LOOKS_MAX: Final = 8
"""How often datagrams are looked for again in a turn, while the others of a meeting speak."""
OWNERS_MAX: Final = 4096
"""Channels whose layer is remembered."""
FRAMES: Final = 1
DATAGRAMS: Final = 2
LIFELINES: Final = 4
"""Where inputs may lie: what `turn` is told is a sum of these."""
EVERYWHERE: Final = FRAMES | DATAGRAMS | LIFELINES
NOWHERE: Final = 0
_NEVER_NS: Final = 1 << 62
_BULK: Final = Lane.BULK


class LifelineSide(Protocol):
    """What the pump needs of a lifelines driver."""

    def feed(self, endpoint: Endpoint, now_ns: int) -> None:
        """Give everything that has happened to the core."""
        ...

    def connect(self, peer: int, rail: str, address: str, port: int) -> None: ...
    def drop(self, peer: int) -> None: ...
    def farewell(self) -> None: ...


class Disk(Protocol):
    """Where the record goes; the answer comes by `Endpoint.persisted` in a later turn."""

    def store(self, token: int, data: bytes) -> None: ...


class Pump:
    """Moves things between one core, its drivers and its layers."""

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        driver: Driver,
        lifelines: LifelineSide | None,
        datagrams: Datagrams | None = None,
        disk: Disk,
        layers: Mapping[str, Layer],
        peers: Mapping[int, PeerEndpoint],
        sink: Callable[[StreamItem], None],
        clock: Callable[[], int],
        sink_entries: bool = True,
    ) -> None:
        """With `sink_entries` entries of the agreed order go to `sink` too, behind the layers."""
        self.endpoint = endpoint
        self._driver = driver
        self._lifelines = lifelines
        self._datagrams = datagrams
        self._disk = disk
        self._layers = dict(layers)
        # Bound once: to look a method up in each turn takes longer than what most of them do.
        self._wake = [layer.wake for layer in layers.values()]
        self._take_entries = [layer.take_entries for layer in layers.values()]
        self._deadlines = [layer.next_deadline for layer in layers.values()]
        self._directing = [
            (layer.take_directed, layer.directed_channel)
            for layer in layers.values()
            if isinstance(layer, DirectingLayer)
        ]
        self._unisons: dict[Layer, Callable[..., bool]] = {
            layer: layer.unison for layer in layers.values() if isinstance(layer, UnisonLayer)
        }
        self._owners: dict[str, Layer | None] = {}
        """By channel of the ordered lane, as far as entries of it have come."""
        self._peers = peers
        self._sink = sink
        self._sink_entries = sink_entries
        self._clock = clock
        self._numbered = _Numbered(endpoint)
        self._to_store: Persist | None = None
        """The newest record of this turn: what it replaces need not be written."""
        self._due_ns = 0
        """When something is due, as of the last turn."""
        self.due = False
        """Something was due in this turn."""
        self.idle = False
        """This turn has brought nothing, and is over with its first half."""
        self._brought = False
        """Something lay where it was looked for last."""
        self._now_ns = 0
        """When the turn began whose second half is to come."""
        self._settled = True
        """The core has looked at what this turn has brought."""

    def start(self) -> int | None:
        """Begin; returns the next deadline like `turn`."""
        self.endpoint.start(self._clock())
        return self.turn()

    def turn(self, look: int = EVERYWHERE) -> int | None:
        """Take in what lies there, and put out everything there is.

        `look` says where something may lie, for whoever knows. When something is due it is looked
        for everywhere: nobody is taken for silent whose word has come.

        Returns when to come back at the latest.
        """
        self.take_in(look)
        return self.put_out()

    def take_in(self, look: int) -> None:
        """The first half of a turn: what has come, what follows from it, and what it lets go on.

        Whoever goes on now may have more to say before `put_out`.
        """
        endpoint, now_ns = self.endpoint, self._look(look)
        self.due = now_ns >= self._due_ns
        self.idle = look == DATAGRAMS and not (self.due or self._brought)
        if self.idle:
            return  # a packet of a frame has come, of which others are to follow
        if self.due and look != EVERYWHERE:
            now_ns = self._look(EVERYWHERE)
        self._now_ns = endpoint.links.now_ns = now_ns
        # What is to be passed on is waited for elsewhere.
        self._cast()
        if self._datagrams is not None and endpoint.repairs(now_ns):
            endpoint.look(self._datagrams.incomplete(), self._datagrams.overruns)
        for wake in self._wake:
            wake(now_ns)
        if self._publish() or not may_settle_later(endpoint, now_ns):
            endpoint.wake(now_ns)
            self._settled = True
        else:
            # Whoever goes on now most likely has something to say, and both settle at once.
            self._settled = False
        self._hand_over(now_ns)

    def _look(self, where: int) -> int:
        """Take what lies there; returns the time by which all of it had come.

        The clock is read behind what it stamps: whoever answers a heartbeat that came while this
        process stood still before it read must not believe that it did so earlier (PROTOCOL 3).
        """
        endpoint = self.endpoint
        datagrams = self._datagrams if where & DATAGRAMS else None
        given = self._driver.poll() if where & FRAMES else ()
        cast = datagrams.poll(patient=endpoint.gathering) if datagrams is not None else ()
        self._brought = bool(given) or bool(cast)
        now_ns = self._clock()
        for item in given:
            if isinstance(item, Received):
                endpoint.receive(item, now_ns)
            else:
                endpoint.notice(item, now_ns)
        self._receive(cast, now_ns)
        looks = 0
        while cast and datagrams is not None and endpoint.gathering and looks < LOOKS_MAX:
            # What the others of a meeting are about to say is passed on together with this.
            looks += 1
            cast = datagrams.poll(patient=True)
            now_ns = self._clock()
            self._receive(cast, now_ns)
        if where & LIFELINES and self._lifelines is not None:
            self._lifelines.feed(endpoint, now_ns)
        return now_ns

    def _receive(self, cast: Sequence[Datagram], now_ns: int) -> None:
        receive = self.endpoint.receive_datagram
        for node, rail, frame, session, number in cast:
            receive(node, rail, frame, now_ns, session, number)

    def put_out(self, *, more: bool = False) -> int | None:
        """The second half; with `more` if anything was asked of the core between the two.

        Returns when to come back at the latest.
        """
        endpoint, now_ns = self.endpoint, self._now_ns
        if more:
            now_ns = self._clock()
            due_ns = endpoint.next_deadline()
            if due_ns is not None and now_ns >= due_ns:
                # It took its time: nobody is taken for silent whose word has come meanwhile.
                return self.turn()
            self._now_ns = endpoint.links.now_ns = now_ns
        given = True
        settled = self._settled and not more
        while (given and self._publish()) or not settled or endpoint.outputs.pending:
            settled = True
            endpoint.settle(now_ns)
            given = self._hand_over(now_ns)
        if self._to_store is not None:
            self._disk.store(self._to_store.token, self._to_store.data)
            self._to_store = None
        deadline = self._deadline()
        if deadline is None:
            self._due_ns = _NEVER_NS
        else:
            self._due_ns = deadline
            endpoint.expect_wake(max(deadline, now_ns))
        return deadline

    def _hand_over(self, now_ns: int) -> bool:
        """Everything that the core has put out, to the drivers, the layers and the cluster.

        False if nothing was for the layers, which so have nothing new to say.
        """
        self._cast()
        transmits, commands, stream = self.endpoint.outputs.take()
        # Frames of the turn that leaves a path must not be given to it any more.
        if commands:
            self._leave_paths(commands)
        if transmits:
            self._transmit(transmits)
        for command in commands:
            self._carry_out(command)
        if stream:
            self._give(stream, now_ns)
        return bool(stream)

    def _leave_paths(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, SetPrimary):
                self._carrier(command.link).set_primary(command.link, command.rail)

    def _deadline(self) -> int | None:
        earliest = self.endpoint.next_deadline()
        for deadline in self._deadlines:
            at = deadline()
            if at is not None and (earliest is None or at < earliest):
                earliest = at
        return earliest

    def _cast(self) -> None:
        """Send what goes as datagrams: first, for somebody waits for it."""
        outputs, datagrams = self.endpoint.outputs, self._datagrams
        if outputs.casts:
            for item in outputs.take_casts():
                if datagrams is None:
                    continue
                if item.session:
                    datagrams.cast_numbered(
                        item.nodes, item.rail, item.frame, item.session, item.number, item.pieces
                    )
                else:
                    datagrams.cast(item.nodes, item.rail, item.frame)

    def _carrier(self, link: int) -> Driver | UdpLinks:
        """Whose link it is: a driver's, or one that the core has made of datagrams."""
        return self.endpoint.links if link < 0 else self._driver

    def _transmit(self, transmits: list[Transmit]) -> None:
        endpoint = self.endpoint
        for item in transmits:
            taken = not endpoint.waits(item) and self._carrier(item.link).transmit(
                item.link, item.stream, item.frame, rail=item.rail
            )
            if not taken:
                endpoint.refused(item)

    def _carry_out(self, command: Command) -> None:
        driver, lifelines = self._driver, self._lifelines
        match command:
            case Connect():
                self.endpoint.dialled(command.peer, driver.connect(self._peers[command.peer]))
            case Disconnect():
                self._carrier(command.link).disconnect(command.link, abort=command.abort)
            case SetPrimary():
                pass  # Done, before the frames.
            case Persist():
                self._to_store = command
            case ConnectLifeline():
                peer = self._peers[command.peer]
                address = peer.addresses.get(command.rail)
                if lifelines is not None and address is not None:
                    lifelines.connect(command.peer, command.rail, address, peer.udp_port)
            case DropLifelines():
                if lifelines is not None:
                    lifelines.drop(command.peer)
            case CloseLifelines():
                if lifelines is not None:
                    lifelines.farewell()

    def _give(self, stream: list[StreamItem], now_ns: int) -> None:
        """Give the stream to the layers and to the cluster, in its order."""
        sink = self._sink
        run: list[Ordered] = []
        for item in stream:
            if isinstance(item, Ordered):
                if run and run[0].channel != item.channel:
                    self._give_ordered(run, now_ns)
                    run = []
                run.append(item)
                continue
            if run:
                self._give_ordered(run, now_ns)
                run = []
            if isinstance(item, Unison):
                self._give_unison(item, now_ns)
                continue
            if self._through_layers(item, now_ns):
                sink(item)
        if run:
            self._give_ordered(run, now_ns)

    def _give_ordered(self, run: list[Ordered], now_ns: int) -> None:
        """Entries of one channel that follow each other."""
        for item in run:
            if item.safe:
                first = Position(item.view_id.era, item.view_id.k, item.first)
                for layer in self._layers.values():
                    layer.held_back(first, now_ns=now_ns)
        owner = self._owner(run[0].channel)
        if owner is not None:
            owner.ordered(run, now_ns=now_ns)
        if self._sink_entries:
            for item in run:
                self._sink(item)

    def _give_unison(self, item: Unison, now_ns: int) -> None:
        """Entries of all members at once, to a layer that can take them so."""
        owner = self._owner(item.channel)
        take = None if owner is None or item.safe else self._unisons.get(owner)
        if take is None or not take(item, now_ns=now_ns):
            self._give_ordered(item.each(), now_ns)
        elif self._sink_entries:
            for each in item.each():
                self._sink(each)

    def _through_layers(self, item: StreamItem, now_ns: int) -> bool:
        """False if it is for a layer alone."""
        match item:
            case Delivered():
                if item.channel[:1] == "!":
                    return self._directed(item, now_ns)
                if not item.directed:
                    for layer in self._layers.values():
                        layer.progressed(
                            sender=item.sender,
                            lane=item.lane,
                            sequence=item.sequence,
                            now_ns=now_ns,
                        )
            case Stable():
                position = Position(item.view_id.era, item.view_id.k, item.last)
                for layer in self._layers.values():
                    layer.stable(position, now_ns=now_ns)
            case ViewInstalled():
                for layer in self._layers.values():
                    layer.installed(item, now_ns=now_ns)
            case PrimaryLost() | Evicted():
                for layer in self._layers.values():
                    layer.detached(_reason(item), now_ns=now_ns)
            case _:
                pass
        return True

    def _directed(self, item: Delivered, now_ns: int) -> bool:
        """A message from one layer to another; who carries no such layer has no use for it."""
        owner = self._owner(item.channel)
        if isinstance(owner, DirectingLayer):
            owner.directed(item.sender, item.payloads, now_ns=now_ns)
        return False

    def _owner(self, channel: str) -> Layer | None:
        if channel not in self._owners:
            if len(self._owners) >= OWNERS_MAX:
                self._owners.clear()
            owner = next((it for it in self._layers.values() if it.owns(channel)), None)
            self._owners[channel] = owner
        return self._owners[channel]

    def _publish(self) -> bool:
        """Put what the layers want to say on the ordered lane; True if anything was put."""
        endpoint = self.endpoint
        put = False
        for take in self._take_entries:
            for entry in take(self._numbered):
                endpoint.submit_entry(
                    entry.channel, entry.payload, safe=entry.safe, meeting=entry.meeting
                )
                put = True
        for take_directed, channel in self._directing:
            waiting = take_directed()
            while waiting:
                node, payload = waiting[0]
                if not endpoint.submit(node, _BULK, channel, payload):
                    break
                waiting.popleft()
                put = True
        return put


class _Numbered:
    """For the layers: looked up by the few entries that wait for it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def get(self, lane: Lane, default: int, /) -> int:
        """The token up to which the multicasts of a lane have been numbered."""
        del default  # this node has a stream on each lane
        return self._endpoint.delivery.numbered(lane)


def _reason(event: PrimaryLost | Evicted) -> str:
    if isinstance(event, Evicted):
        return f"this node was evicted by view {event.view_id}"
    return "this node lost contact with the majority"
