"""Every exception that phalanx raises, in three kinds.

* The caller's mistakes (`ConfigError`, `UsageError`) are raised at once and say how to mend them.
* What the network sends never raises: it is counted (`Cluster.stats()`).
* Trouble of the environment (`EnvironmentTrouble` and below) is mapped to these types at the
  edge of each driver, in one place.

What a protocol outcome means to a waiting caller (`NoQuorum`, `Overloaded`, ...) is the rest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from typing import TypeVar

from .events import Position


class PhalanxError(Exception):
    """The base of every exception that phalanx raises."""


# ------------------------------------------------------------------ the caller's mistakes


class UsageError(PhalanxError):
    """The API was called in a way that can never work; the message says what to do instead."""


class ConfigError(PhalanxError):
    """A configuration cannot be used.

    `file` and `key` say where, `fix` says what to change.
    """

    def __init__(self, *, file: str, key: str, problem: str, fix: str) -> None:
        super().__init__(f"{file}: {key}: {problem}; {fix}")
        self.file = file
        self.key = key
        self.problem = problem
        self.fix = fix


# --------------------------------------------------------------- trouble of the environment


class EnvironmentTrouble(PhalanxError):
    """The operating system refused something; `__cause__` is its own error."""


class DriverUnavailable(EnvironmentTrouble):
    """A driver cannot work on this machine (no kernel SCTP, extension not built)."""


class PortTaken(EnvironmentTrouble):
    """Another process has the port; the message names the port and the address."""


class AddressMissing(EnvironmentTrouble):
    """None of the node's addresses exists on this machine."""


class RecordUnusable(EnvironmentTrouble):
    """The durable record is torn, rolled back or cannot be written."""


class StateDirLocked(EnvironmentTrouble):
    """Another process of this machine runs as the same node."""


# ------------------------------------------------------------------------ protocol outcomes


class NoQuorum(PhalanxError):
    """The node is not in contact with a majority, so it may not act.

    `outcome` is "unknown" for work that may or may not have taken effect, else "none".
    """

    def __init__(self, message: str, *, outcome: str = "none") -> None:
        super().__init__(message)
        self.outcome = outcome


class Overloaded(PhalanxError):
    """Buffers are full and the caller asked not to wait; nothing was accepted."""


class Undelivered(PhalanxError):
    """Not every addressee holds a message; `missing` says who, and why, by node id."""

    def __init__(self, *, missing: Mapping[int, str]) -> None:
        names = ", ".join(f"node {node}: {why}" for node, why in sorted(missing.items()))
        super().__init__(f"not held by every addressee ({names})")
        self.missing = dict(missing)


class EvictedError(PhalanxError):
    """The cluster went on without this node; join again (or pass `rejoin=True`)."""


class StateFailed(PhalanxError):
    """The application's state could not be given or taken in, so that this node has ended.

    If a hook has raised, `__cause__` is what it raised.
    """


class ClosedError(PhalanxError):
    """The cluster object was closed or has left; join again to go on."""


class EventsLost(PhalanxError):
    """Nobody read for so long that events are missing here; read on, the stream continues.

    `lost` says how many of each kind. No `Message` is ever among them; `Cluster.view` says which
    view is installed now.
    """

    def __init__(self, *, lost: Mapping[str, int]) -> None:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(lost.items()))
        super().__init__(f"too many events were unread, so that some are missing here: {kinds}")
        self.lost = dict(lost)


class EntriesMissed(PhalanxError):
    """An ordered channel goes on at `position`; what was ordered before is not here; read on.

    This node was evicted and has come back. With hooks for state the channel takes the state of
    another member instead, and nothing is missing.
    """

    def __init__(self, *, channel: str, position: Position) -> None:
        super().__init__(
            f"channel {channel!r} goes on at {position}: this node was away, and gave no hooks "
            "(on_state_request, on_state) by which to have the state of another member"
        )
        self.channel = channel
        self.position = position


class JoinTimeout(PhalanxError, TimeoutError):
    """No view with this node was formed in time; the message says who was missing."""


class BarrierError(PhalanxError):
    """The base of the outcomes of a barrier that is not released.

    `generation` says which use of the name it was, the same at every party; None if the arrival
    was taken back before it counted in any.
    """

    def __init__(
        self,
        message: str,
        *,
        name: str,
        missing: Mapping[int, str],
        generation: Position | None = None,
    ) -> None:
        super().__init__(message)
        self.name = name
        self.generation = generation
        self.missing = dict(missing)


class BarrierBroken(BarrierError):
    """A generation of a barrier was broken, with the same reason for every party."""

    def __init__(
        self,
        *,
        name: str,
        reason: str,
        missing: Mapping[int, str],
        generation: Position | None = None,
    ) -> None:
        who = ", ".join(f"node {node} ({why})" for node, why in sorted(missing.items()))
        super().__init__(
            f"barrier {name!r} is broken: {reason}" + (f"; missing: {who}" if who else ""),
            name=name,
            missing=missing,
            generation=generation,
        )
        self.reason = reason


class BarrierTimeout(BarrierError, TimeoutError):
    """This party's deadline passed first; `missing` names who had not arrived."""

    def __init__(
        self,
        *,
        name: str,
        timeout_s: float,
        missing: Mapping[int, str],
        generation: Position | None = None,
    ) -> None:
        who = ", ".join(f"node {node} ({why})" for node, why in sorted(missing.items()))
        super().__init__(
            f"barrier {name!r} was not released within {timeout_s:g} s; missing: {who or '?'}",
            name=name,
            missing=missing,
            generation=generation,
        )
        self.timeout_s = timeout_s


class BarrierMismatch(BarrierError, UsageError):
    """Parties came to one barrier with different settings; all of them are told at once.

    `ours` and `theirs` are the settings of this party and of the other side, in words. The
    mistake is in the program of one of the two.
    """

    def __init__(
        self, *, name: str, ours: str, theirs: str, generation: Position | None = None
    ) -> None:
        super().__init__(
            f"barrier {name!r} is used with different settings: others use {theirs}; "
            f"this call uses {ours}",
            name=name,
            missing={},
            generation=generation,
        )
        self.ours = ours
        self.theirs = theirs


# ------------------------------------------------------------------------------- raising

_Error = TypeVar("_Error", bound=PhalanxError)


def again(error: _Error) -> _Error:
    """A copy of an error that is kept, to be raised in its place.

    Each raise lengthens the traceback of an exception object for ever, and with it keeps alive
    the frames and the arguments of all the calls that it has ended.
    """
    kind = type(error)
    copy = kind.__new__(kind, *error.args)
    copy.args = error.args
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error.__cause__
    copy.__suppress_context__ = error.__suppress_context__
    return copy


@contextlib.contextmanager
def trouble(what: str) -> Generator[None, None, None]:
    """Around calls of the system: what it refuses is said to have failed in these words.

    Raises:
        EnvironmentTrouble: for an `OSError`, which is its cause.
    """
    try:
        yield
    except OSError as error:
        raise EnvironmentTrouble(f"{what}: {error.strerror or error}") from error
