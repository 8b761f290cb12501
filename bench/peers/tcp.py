"""TCP as the standard library has it: asyncio streams, each message behind its length."""

from __future__ import annotations

import platform

from .pair import Pair

PORT = 6006


class Tcp(Pair):
    """The peer that everybody has: the kernel's stream, and a framing of one's own."""

    def __init__(self) -> None:
        super().__init__("asyncio tcp", "peers.tcp_member", PORT)

    def missing(self) -> list[str]:
        """Nothing can be."""
        return []

    def version(self) -> str:
        """Of Python."""
        return platform.python_version()
