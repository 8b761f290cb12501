"""Who is about to say the same: batches of a meeting are not answered by who will speak anyway.

The arrivals at a barrier come from all parties at about the same time. Without this, each would
be an epoch of its own, with an END of every member; so they all fall into one, which they close.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..wire_data import MEETING_RANKS_MAX, Meeting

REMEMBERED_MAX = 1024
"""Meetings of which it is remembered that this node has spoken."""


class Meetings:
    """The meetings of one view, as far as they are known here."""

    def __init__(self, *, members: Sequence[int], node: int) -> None:
        self._bit = 1 << (sorted(members).index(node) % MEETING_RANKS_MAX)
        self._spoken: dict[int, None] = {}
        """Keys of the meetings at which this node has spoken, the oldest first."""

    def said(self, meeting: Meeting) -> None:
        """A batch of ours belongs to this meeting."""
        self._spoken[meeting.key] = None
        if len(self._spoken) > REMEMBERED_MAX:
            del self._spoken[next(iter(self._spoken))]

    def expects(self, meeting: Meeting) -> bool:
        """Whether this node may be about to speak at it."""
        return bool(meeting.ranks & self._bit) and meeting.key not in self._spoken
