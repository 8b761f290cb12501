"""Ordered channels of which what is published and read stands in the history of a `Recorder`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from phalanx.transport.errors import Overloaded, UsageError
from phalanx.transport.events import Lane, Member, Position
from phalanx.transport.testing.history import (
    Accepted,
    Opened,
    Placed,
    Read,
    Refused,
    Sent,
    name_of,
)
from phalanx.transport.testing.recorder import Recorder

from ..channel_items import Entries, Opening, StateMade
from ..channel_queue import Readable
from ..channels import OnState, OnStateRequest, OrderedChannel, Publication

_HASH_BYTES = 32
_NEVER_PUBLISHED = (UsageError, Overloaded)


class RecordedChannel(OrderedChannel):
    """An `OrderedChannel` of the recorder's cluster; what is published and read is written down.

    With hooks for state a chain of hashes over all that was read goes along with the state, so
    that two applications whose states come from each other can be compared: then every node has to
    use this class. Where in the order an entry is, is written down for whoever waits for it:
    `publish` and `publish_many` (of which it is the last).
    """

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        *,
        on_state_request: OnStateRequest | None = None,
        on_state: OnState | None = None,
    ) -> None:
        """As of `OrderedChannel`."""
        self._recorder = recorder
        self._stateful = on_state is not None
        self._line = b""
        """Whose state it began with: the same for all that took it from each other."""
        self._digest = bytes(_HASH_BYTES)
        self._alone = False
        """It began without the state that it wanted."""
        super().__init__(
            recorder.cluster,
            name,
            on_state_request=None if on_state_request is None else self._with(on_state_request),
            on_state=None if on_state is None else self._without(on_state),
        )

    # ---------------------------------------------------------------------------- publishing

    async def publish_many(
        self, payloads: Iterable[bytes], *, safe: bool = False, timeout: float | None = None
    ) -> Position:
        """As of `OrderedChannel`."""
        listed = list(payloads)
        number = self._published(listed, safe=safe, timeout=timeout)
        try:
            position = await super().publish_many(listed, safe=safe, timeout=timeout)
        except BaseException as error:
            self._failed_to_publish(number, listed, error)
            raise
        recorder = self._recorder
        recorder.write(Accepted(recorder.now_ns(), number))
        recorder.write(Placed(recorder.now_ns(), name_of(listed[-1]), position))
        return position

    async def submit(
        self,
        payloads: Iterable[bytes],
        *,
        safe: bool = False,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Publication:
        """As of `OrderedChannel`."""
        listed = list(payloads)
        number = self._published(listed, safe=safe, timeout=timeout)
        try:
            publication = await super().submit(listed, safe=safe, wait=wait, timeout=timeout)
        except BaseException as error:
            self._failed_to_publish(number, listed, error)
            raise
        self._recorder.write(Accepted(self._recorder.now_ns(), number))
        return publication

    def _published(self, payloads: list[bytes], *, safe: bool, timeout: float | None) -> int:
        recorder = self._recorder
        number, now_ns = recorder.next_number(), recorder.now_ns()
        sent = Sent(
            now_ns,
            number,
            Lane.ORDERED,
            0,
            tuple(map(name_of, payloads)),
            recorder.deadline_ns(now_ns, timeout),
            incarnation=recorder.whose(),
            channel=self.name,
            safe=safe,
            receipt=False,
        )
        recorder.write(sent)
        return number

    def _failed_to_publish(self, number: int, payloads: list[bytes], error: BaseException) -> None:
        perhaps = len(payloads) > 1 or not isinstance(error, _NEVER_PUBLISHED)
        name, now_ns = type(error).__name__, self._recorder.now_ns()
        self._recorder.write(Refused(now_ns, number, name, perhaps))

    # ------------------------------------------------------------------------------- reading

    def _note(self, item: Readable) -> None:
        super()._note(item)
        now_ns, channel = self._recorder.now_ns(), self.name
        if isinstance(item, Opening):
            opened = Opened(now_ns, channel, item.position, self._line, self._alone)
            self._recorder.write(opened)
        elif isinstance(item, Entries):
            names, first, digest = tuple(map(name_of, item.payloads)), item.first, b""
            if self._stateful:
                place = f"{first} {item.sender}".encode()
                digest = self._digest = _hash(self._digest, place, *names)
            read = Read(now_ns, channel, item.sender, first, names, self._line, digest)
            self._recorder.write(read)

    def _take(self, made: StateMade) -> None:
        self._alone = self._stateful and made.state is None
        if self._alone:
            # With what it may have had before, and without what it missed.
            cluster = self._recorder.cluster
            here = Member(cluster.node_id, cluster.incarnation)
            self._line = _hash(self._line, f"{here} {made.position}".encode())
        super()._take(made)

    def _with(self, give: OnStateRequest) -> OnStateRequest:
        def hook() -> bytes:
            return self._line + self._digest + give()

        return hook

    def _without(self, take: OnState) -> OnState:
        def hook(state: bytes) -> None:
            self._line = state[:_HASH_BYTES]
            self._digest = state[_HASH_BYTES : 2 * _HASH_BYTES]
            take(state[2 * _HASH_BYTES :])

        return hook


def _hash(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()
