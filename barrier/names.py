"""Names of barriers: a user's own, and the two that a double barrier makes of one.

A user's name is printable, and what is put before it is not, so that they never collide. The
barrier at which a double barrier is left has the place of its own entering in its name: what
somebody left behind in an earlier use of the name hits no later one.
"""

from __future__ import annotations

import functools
from typing import Final

from phalanx.transport.config import NAME_BYTES_MAX
from phalanx.transport.events import Position

_ENTER: Final = "\x01"
_LEAVE: Final = "\x02"
_END: Final = "\x03"
KNOWN_MAX: Final = 4096
"""Names of which it is remembered whether they are usable."""


def enter_name(name: str) -> str:
    """Where the parties of a double barrier enter."""
    return _ENTER + name


def leave_name(name: str, entered: Position) -> str:
    """Where those leave who have entered together."""
    return f"{_LEAVE}{entered.era}.{entered.k}.{entered.index}{_END}{name}"


def base(name: str) -> str:
    """The name that the user has given."""
    if name.startswith(_ENTER):
        return name[1:]
    if name.startswith(_LEAVE):
        return name.partition(_END)[2]
    return name


def shown(name: str) -> str:
    """How a name is called towards users."""
    if name.startswith(_ENTER):
        return f"{base(name)} (enter)"
    if name.startswith(_LEAVE):
        return f"{base(name)} (leave)"
    return name


@functools.lru_cache(maxsize=KNOWN_MAX)
def problem(name: str) -> str | None:
    """What a usable name has and this one has not; None if it is usable."""
    user = base(name)
    if not 1 <= len(user.encode(errors="replace")) <= NAME_BYTES_MAX or not user.isprintable():
        return f"1 to {NAME_BYTES_MAX} printable bytes"
    return None
