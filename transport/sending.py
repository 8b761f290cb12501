"""Accepting messages: checks, waiting for room, receipts.

Calls for one stream (an addressee, or all members, and a lane) are served in the order in which
they came: whoever finds others waiting waits behind them, and with `wait=False` is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

from .calls import Home, seconds
from .config import NAME_BYTES_MAX, ClusterConfig
from .core.outputs import Settled
from .errors import ClosedError, NoQuorum, Overloaded, PhalanxError, UsageError
from .events import Lane, Member
from .receipts import Ledger, Receipt
from .runtime import Runtime
from .waiting_line import WaitingLine

HURRY_MAX: Final = 16
"""Whoever publishes no more than this waits for each; others for room, and gain by batches."""
LANES: Final = {"fifo": Lane.FIFO, "bulk": Lane.BULK}


@dataclass(slots=True, kw_only=True)
class _Call:
    """One call of `send`, and how far it has got."""

    addressee: int
    member: Member | None
    lane: Lane
    channel: bytes
    payloads: list[bytes]
    ledger: Ledger
    """Of the incarnation that accepts it: the next one counts anew."""
    safe: bool = False
    when_accepted: Callable[[int], None] | None = None
    """Told the token of the last message when all are accepted, before anything becomes of them."""
    accepted: int = 0
    first: int = 0
    last: int = 0

    @property
    def hurried(self) -> bool:
        """Whether its sender probably waits for just this."""
        return self.lane is Lane.ORDERED and len(self.payloads) <= HURRY_MAX

    @property
    def where(self) -> str:
        """What there was no room for, in words."""
        lane = self.lane.name.lower()
        return f"message {self.accepted + 1} of {len(self.payloads)} on lane {lane}"


class Sending:
    """The sending side of one cluster object."""

    def __init__(
        self, config: ClusterConfig, runtime: Runtime, home: Home, check_state: Callable[[], None]
    ) -> None:
        self._limits = config.limits
        self._call_timeout = config.timing.call_timeout_ns / 1e9
        self._runtime = runtime
        self._home = home
        self._check_state = check_state
        self._ledgers: dict[tuple[int, Lane], Ledger] = {}
        self._lines: dict[tuple[int, Lane], WaitingLine] = {}

    async def send(
        self,
        addressee: int,
        messages: Iterable[bytes],
        channel: str,
        lane_name: str,
        *,
        wait: bool,
        timeout: float | None,
    ) -> Receipt:
        """Have the core accept all of `messages`, waiting for room if asked to."""
        self._check_state()
        payloads = list(messages)
        lane, encoded = self._check(payloads, channel, lane_name)
        deadline = self._home.loop.time() + seconds(timeout, self._call_timeout)
        call = _Call(
            addressee=addressee,
            member=self._member(addressee),
            lane=lane,
            channel=encoded,
            payloads=payloads,
            ledger=self.ledger(addressee, lane),
        )
        await self._accept(call, deadline, wait=wait)
        return Receipt(call.ledger, call.first, call.last, self._call_timeout)

    async def publish(
        self,
        channel: str,
        payloads: list[bytes],
        *,
        safe: bool,
        wait: bool,
        deadline: float,
        when_accepted: Callable[[int], None],
    ) -> None:
        """Have the ordered lane accept all of `payloads`.

        `when_accepted` is given the token of the last of them at that moment: when this call
        returns, they may be ordered already. `deadline` is in the time of the event loop. Raises
        what `send` raises.
        """
        self._check_state()
        call = _Call(
            addressee=0,
            member=None,
            lane=Lane.ORDERED,
            channel=_encoded(channel),
            payloads=payloads,
            ledger=self.ledger(0, Lane.ORDERED),
            safe=safe,
            when_accepted=when_accepted,
        )
        self._check_payloads(payloads)
        await self._accept(call, deadline, wait=wait)

    async def _accept(self, call: _Call, deadline: float, *, wait: bool) -> None:
        line = self._line(call.addressee, call.lane)
        if line.busy and not wait:
            raise Overloaded("others wait for room on this lane already; let it wait behind them")
        if line.busy or not self._attempt(call):
            if not wait:
                raise Overloaded(f"no room for {call.where}; try again later, or let it wait")
            try:
                await line.wait(lambda: self._attempt(call), deadline)
            except TimeoutError:
                raise Overloaded(
                    f"no room before the deadline for {call.where}: a member does not take its "
                    "messages; see stats()['windows']"
                ) from None

    def _attempt(self, call: _Call) -> bool:
        """Have the core accept what it has room for; True if that is all that is left."""
        # The call may have waited: nothing is submitted for whom it did not mean.
        self._check_state()
        if self._member(call.addressee) != call.member:
            raise UsageError(
                f"node {call.addressee} left the view before there was room, and is back as "
                "another incarnation; send again if that one is to have it"
            )
        submit = self._runtime.endpoint.submit
        while call.accepted < len(call.payloads):
            payload = call.payloads[call.accepted]
            token = submit(call.addressee, call.lane, call.channel, payload, safe=call.safe)
            if not token:
                self._runtime.kick()
                return False
            call.first = call.first or token
            call.last = token
            call.accepted += 1
        if call.when_accepted is not None:
            call.when_accepted(call.last)
        if call.hurried:
            self._runtime.hurry()
        else:
            self._runtime.kick()
        return True

    def _member(self, addressee: int) -> Member | None:
        """Which start of the addressee is in the view; None if all members are addressed."""
        if not addressee:
            return None
        view = self._runtime.endpoint.view
        if view is None:
            raise ClosedError("no view is installed at the moment")
        for member in view.incarnations:
            if member.node == addressee:
                return member
        raise UsageError(f"node {addressee} is not a member of view {view.id}")

    def _check(self, payloads: list[bytes], channel: str, lane_name: str) -> tuple[Lane, bytes]:
        lane, encoded = _lane(lane_name), _encoded(channel)
        self._check_payloads(payloads)
        return lane, encoded

    def _check_payloads(self, payloads: list[bytes]) -> None:
        most = self._limits.message_bytes_max
        if not payloads:
            raise UsageError("nothing to send: give at least one message")
        for payload in payloads:
            # Checked at run time too: anything else would be found out far away from the caller.
            if type(payload) is not bytes:
                raise UsageError(f"a message is bytes, not {type(payload).__name__}")
            if len(payload) > most:
                raise UsageError(
                    f"a message has at most {most} bytes, this one {len(payload)}; "
                    "cut it up, or raise limits.message_bytes_max in every file"
                )

    def _line(self, addressee: int, lane: Lane) -> WaitingLine:
        line = self._lines.get((addressee, lane))
        if line is None:
            line = self._lines[addressee, lane] = WaitingLine(self._home.loop)
        return line

    def room(self, addressee: int, lane: Lane) -> None:
        """A stream has room again."""
        self._line(addressee, lane).opened()

    def view_installed(self) -> None:
        """Whoever waits to send to a former member is told so now."""
        for line in self._lines.values():
            line.opened()

    def ledger(self, addressee: int, lane: Lane) -> Ledger:
        """What is known of the messages to one member, or to all (0)."""
        ledger = self._ledgers.get((addressee, lane))
        if ledger is None:
            ledger = self._ledgers[addressee, lane] = Ledger(self._home)
        return ledger

    def settled(self, item: Settled) -> bool:
        """Messages have met their fate; True if somebody waited to know."""
        return self.ledger(item.addressee, item.lane).settle(item.token, item.missing)

    def fail(self, error: PhalanxError) -> None:
        """Fail everybody who waits, for room or for a receipt, for good."""
        for ledger in self._ledgers.values():
            ledger.fail(error, final=True)
        self._fail_room(error)

    def _fail_room(self, error: PhalanxError) -> None:
        for line in self._lines.values():
            line.fail(error)

    def lose_primary(self, reason: str) -> None:
        """No contact to a majority: what was accepted may still be delivered, the rest is not."""
        self._fail_room(NoQuorum(reason))
        for ledger in self._ledgers.values():
            ledger.fail(NoQuorum(reason, outcome="unknown"), final=False)

    def open_by_node(self) -> dict[int, str]:
        """Addressees of messages whose fate this node, evicted, will not learn."""
        endpoint = self._runtime.endpoint
        nodes: set[int] = set()
        for stream in endpoint.delivery.out.values():
            if stream.token_settled < stream.token_accepted:
                nodes.update(stream.progress)
        return dict.fromkeys(sorted(nodes), "unknown: this node was evicted")

    def begin_anew(self, error: PhalanxError) -> None:
        """Another incarnation starts: its streams have nothing to do with the old ones."""
        self.fail(error)
        self._ledgers.clear()

    def unheld(self, multicasts: Collection[Lane]) -> list[tuple[tuple[int, Lane], int]]:
        """The directed messages that are not held by their addressees yet, as stream and token,
        and the multicasts on these lanes that not every member holds.
        """
        delivery = self._runtime.endpoint.delivery
        if not (multicasts or delivery.directs):
            return []
        return [
            (key, stream.token_accepted)
            for key, stream in delivery.out.items()
            if (key[0] or key[1] in multicasts)
            and stream.token_accepted > self.ledger(*key).settled
        ]

    async def held(self, sends: list[tuple[tuple[int, Lane], int]], timeout: float) -> None:
        """Wait until what `unheld` gave is held by its addressees, or lost.

        Raises:
            TimeoutError: not within `timeout` seconds.
        """
        async with asyncio.timeout(timeout):
            for key, token in sends:
                await self.ledger(*key).wait(token, timeout)


def _lane(name: object) -> Lane:
    lane = LANES.get(name) if isinstance(name, str) else None
    if lane is None:
        raise UsageError(f"lane {name!r} does not exist; use 'fifo' or 'bulk'")
    return lane


def _encoded(channel: object) -> bytes:
    if not isinstance(channel, str):
        raise UsageError(f"a channel is a str, not {type(channel).__name__}")
    try:
        encoded = channel.encode()
    except UnicodeEncodeError:
        raise UsageError(f"channel {channel!r} cannot be written as UTF-8") from None
    if len(encoded) > NAME_BYTES_MAX or channel.startswith("!"):
        raise UsageError(
            f"channel {channel!r}: a channel has at most {NAME_BYTES_MAX} bytes "
            "and does not start with '!'"
        )
    return encoded
