"""The two functions by which an application gives and takes its state.

The state is what the application made of the stream up to one place of it. So the functions are
called by whoever reads the stream, at that place and nowhere else: the queue of the face sees to
that, and what they return goes to the core.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from .core.outputs import StateArrived, StateTooLarge
from .errors import StateFailed, UsageError
from .events import ViewId

OnStateRequest = Callable[[], bytes]
OnState = Callable[[bytes], None]
_Result = TypeVar("_Result")


class StateSide(Protocol):
    """What hooks need of the core, whichever incarnation it is."""

    def state_wanted(self, view_id: ViewId) -> bool:
        """Whether others still need the state as of this view."""
        ...

    def give_state(self, view_id: ViewId, state: bytes) -> None:
        """The application's state as of this view."""
        ...

    def synced(self, view_id: ViewId) -> None:
        """The application has taken in the state of this view."""
        ...


class StateHooks:
    """An application's hooks, called for the core."""

    def __init__(
        self,
        on_state_request: OnStateRequest,
        on_state: OnState,
        *,
        core: StateSide,
        failed: Callable[[StateFailed], None],
    ) -> None:
        self._on_state_request = on_state_request
        self._on_state = on_state
        self._core = core
        self._failed = failed

    def give(self, view_id: ViewId) -> None:
        """Have the application make a snapshot, if anybody still needs one.

        Raises:
            StateFailed: it could not; this node has ended.
        """
        if not self._core.state_wanted(view_id):
            return
        state = self._call("on_state_request", self._on_state_request)
        # Checked at run time too: anything else would be found out at another node.
        if type(state) is not bytes:
            raise self._end(f"on_state_request returned {type(state).__name__}, not bytes", None)
        self._core.give_state(view_id, state)

    def take(self, arrived: StateArrived) -> None:
        """Have the application take in a state that has arrived.

        Raises:
            StateFailed: it could not; this node has ended.
        """
        state = arrived.state
        if state is not None:
            self._call("on_state", lambda: self._on_state(state))
        self._core.synced(arrived.view_id)

    def _call(self, name: str, hook: Callable[[], _Result]) -> _Result:
        try:
            return hook()
        except Exception as error:
            # The application's own code may raise anything, and its state is in doubt then. What
            # is no `Exception` (a cancelled task, an interrupt) is none of its failures.
            raise self._end(f"{name} raised {error!r}", error) from error

    def _end(self, what: str, cause: Exception | None) -> StateFailed:
        failure = StateFailed(f"the application's state is in doubt, so this node stopped: {what}")
        # Set here, for `failed` hands it to every other caller before it is raised from its cause.
        failure.__cause__ = cause
        self._failed(failure)
        return failure


def check_hooks(on_state_request: object, on_state: object) -> None:
    """Whether both hooks are there, or neither.

    Raises:
        UsageError: one alone can give state and not take it, or the other way round.
    """
    if (on_state_request is None) != (on_state is None):
        raise UsageError(
            "give both on_state_request and on_state, or neither: a node that takes state is "
            "asked for its own when the next one joins"
        )


def too_large(item: StateTooLarge, most: int) -> StateFailed:
    """What ends a newcomer that cannot hold the donor's state."""
    return StateFailed(
        f"the state of node {item.donor} has {item.size} bytes, and this node takes at most "
        f"{most}; raise limits.state_bytes_max in every file"
    )
