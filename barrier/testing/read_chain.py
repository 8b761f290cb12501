"""What a reader of an ordered channel has read: a chain of hashes that goes with its state.

Two that have the same state have read the same: so states can be compared at every position, and
it shows whose state somebody has begun with.
"""

from __future__ import annotations

from typing import Final

from phalanx.transport.events import Member, Position
from phalanx.transport.testing.history import Opened, Read, digest_of

from ..channel_items import Entries, StateMade

_DIGEST_BYTES: Final = 32
HEAD_BYTES: Final = 2 * _DIGEST_BYTES
"""What stands before the application's own state when it is handed over."""


class ReadChain:
    """Of one reader of one channel; makes the records of its history."""

    def __init__(self, channel: str, *, stateful: bool) -> None:
        self._channel = channel
        self._stateful = stateful
        self._line = b""
        """Whose state it began with: the same for all that took it from each other."""
        self._digest = bytes(_DIGEST_BYTES)
        self._alone = False
        """It began without the state that it wanted."""

    def head(self) -> bytes:
        """What is handed over, before the application's own state."""
        return self._line + self._digest

    def take(self, made: StateMade, member: Member) -> None:
        """The reader has come to the state that it begins with, or to learn that there is none."""
        self._alone = self._stateful and made.state is None
        if made.state is not None:
            self._line = made.state[:_DIGEST_BYTES]
            self._digest = made.state[_DIGEST_BYTES:HEAD_BYTES]
        elif self._alone:
            # With what it may have had before, and without what it missed.
            self._line = digest_of(self._line, f"{member} {made.position}".encode())

    def opened(self, position: Position, at_ns: int) -> Opened:
        """It has come to where the channel begins for it."""
        return Opened(at_ns, self._channel, position, self._line, self._alone)

    def read(self, entries: Entries, messages: tuple[bytes, ...], at_ns: int) -> Read:
        """It has read entries; `messages` is what the history calls them."""
        first, sender, digest = entries.first, entries.sender, b""
        if self._stateful:
            place = f"{first} {sender}".encode()
            digest = self._digest = digest_of(self._digest, place, *messages)
        return Read(at_ns, self._channel, sender, first, messages, self._line, digest)
