"""Accepting messages: checks, waiting for room, receipts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .config import NAME_BYTES_MAX, ClusterConfig
from .core.outputs import Settled
from .errors import NoQuorum, Overloaded, PhalanxError, UsageError
from .events import Lane
from .receipts import Ledger, Receipt
from .runtime import Runtime

LANES = {"fifo": Lane.FIFO, "bulk": Lane.BULK}


class Sending:
    """The sending side of one cluster object."""

    def __init__(
        self, config: ClusterConfig, runtime: Runtime, check_state: Callable[[], None]
    ) -> None:
        self._limits = config.limits
        self._call_timeout = config.timing.call_timeout_ns / 1e9
        self._runtime = runtime
        self._check_state = check_state
        self._loop = asyncio.get_running_loop()
        self._ledgers: dict[tuple[int, Lane], Ledger] = {}
        self._waiting: dict[tuple[int, Lane], list[asyncio.Future[None]]] = {}

    async def send(
        self,
        addressee: int,
        payloads: list[bytes],
        channel: str,
        lane_name: str,
        *,
        wait: bool,
        timeout: float | None,
    ) -> Receipt:
        """Have the core accept all of `payloads`, waiting for room if asked to."""
        self._check_state()
        lane, encoded = self._check(payloads, channel, lane_name)
        ledger = self.ledger(addressee, lane)
        first = last = 0
        deadline = self._loop.time() + (self._call_timeout if timeout is None else timeout)
        for number, payload in enumerate(payloads):
            while not (last := self._runtime.endpoint.submit(addressee, lane, encoded, payload)):
                if not wait:
                    raise Overloaded(
                        f"no room for message {number + 1} of {len(payloads)} on lane {lane_name}; "
                        "try again later, or let it wait"
                    )
                self._runtime.kick()
                await self._wait_for_room(addressee, lane, deadline)
                self._check_state()
            first = first or last
        self._runtime.kick()
        return Receipt(ledger, first, last, self._call_timeout)

    def _check(self, payloads: list[bytes], channel: str, lane_name: str) -> tuple[Lane, bytes]:
        lane = LANES.get(lane_name)
        if lane is None:
            raise UsageError(f"lane {lane_name!r} does not exist; use 'fifo' or 'bulk'")
        encoded = channel.encode()
        if len(encoded) > NAME_BYTES_MAX or channel.startswith("!"):
            raise UsageError(
                f"channel {channel!r}: a channel has at most {NAME_BYTES_MAX} bytes "
                "and does not start with '!'"
            )
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
        return lane, encoded

    async def _wait_for_room(self, addressee: int, lane: Lane, deadline: float) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.setdefault((addressee, lane), []).append(future)
        try:
            async with asyncio.timeout_at(deadline):
                await future
        except TimeoutError:
            raise Overloaded(
                "no room before the deadline: a member does not take its messages; "
                "see stats()['windows']"
            ) from None
        finally:
            waiting = self._waiting.get((addressee, lane), [])
            if future in waiting:
                waiting.remove(future)

    def room(self, addressee: int, lane: Lane) -> None:
        """A stream has room again."""
        for future in self._waiting.pop((addressee, lane), []):
            if not future.done():
                future.set_result(None)

    def ledger(self, addressee: int, lane: Lane) -> Ledger:
        """What is known of the messages to one member, or to all (0)."""
        ledger = self._ledgers.get((addressee, lane))
        if ledger is None:
            ledger = self._ledgers[addressee, lane] = Ledger()
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
        waiting, self._waiting = self._waiting, {}
        for futures in waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)

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

    async def directed_held(self, timeout: float) -> None:
        """Wait until every directed message sent before is held by its addressee, or lost.

        Raises:
            TimeoutError: not within `timeout` seconds.
        """
        open_now = [
            (key, stream.token_accepted)
            for key, stream in self._runtime.endpoint.delivery.out.items()
            if stream.key.addressee and stream.token_accepted > self.ledger(*key).settled
        ]
        async with asyncio.timeout(timeout):
            for key, token in open_now:
                await self.ledger(*key).wait(token, timeout)
