"""What ends a benchmark."""

from __future__ import annotations

from phalanx.transport.errors import PhalanxError


class BenchFailed(PhalanxError):
    """A run did not come to its end; the message says why."""
