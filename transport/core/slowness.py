"""Members that hold the others up: how late their ENDs are, and since when they are waited for.

An epoch is complete when every member has closed it, so that the order goes as fast as the slowest
of them. Each END is timed from the first that was heard of its epoch; who is waited for is known
at any time, and may be left out of the view for it (`traffic.evict_slow_ms`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..delays import Delays


class Slowness:
    """Of one node's view of the others; what was measured outlives a view."""

    def __init__(self) -> None:
        self._delays = Delays()
        self._begun: dict[int, int] = {}
        """By epoch that is not complete when its first END was heard, or said."""
        self._unread: dict[int, int] = {}
        """Since when the application of a member does not read the ordered lane."""

    def begin(self) -> None:
        """A view is installed: nobody has kept anybody waiting in it."""
        self._begun.clear()
        self._unread.clear()

    def ended(self, member: int, epoch: int, now_ns: int) -> None:
        """A member has closed an epoch, as is heard for the first time."""
        first_ns = self._begun.setdefault(epoch, now_ns)
        self._delays.note(member, now_ns - first_ns)

    def completed(self, epoch: int) -> None:
        """Everything of an epoch is here: nobody is waited for in it."""
        self._begun.pop(epoch, None)

    def brought(self, members: tuple[int, ...], epoch: int, now_ns: int) -> None:
        """All members but this one have closed an epoch at once, and everything of it is here."""
        self._delays.note_together(members, now_ns - self._begun.pop(epoch, now_ns))

    def unread(self, node: int, now_ns: int, *, unread: bool) -> None:
        """The application of a member does not read the ordered lane, or does again."""
        if unread:
            self._unread.setdefault(node, now_ns)
        else:
            self._unread.pop(node, None)

    def excuse(self, lag_ns: int, now_ns: int) -> None:
        """This process did not run for so long: nobody was waited for in that time."""
        for since in (self._begun, self._unread):
            for key, since_ns in since.items():
                since[key] = min(now_ns, since_ns + lag_ns)

    def waited_for(self, epoch: int, members: Iterable[int]) -> dict[int, int]:
        """Since when each member holds the others up, if `members` owe something of an epoch."""
        waited = dict(self._unread)
        begun_ns = self._begun.get(epoch)
        if begun_ns is not None:
            for member in members:
                waited[member] = min(begun_ns, waited.get(member, begun_ns))
        return waited

    def delays(self) -> Mapping[int, tuple[int, int, int]]:
        """By member how often it closed an epoch, and how late: mean and worst in nanoseconds."""
        return self._delays.all()
