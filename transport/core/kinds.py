"""Kinds of frames as numbers, which are compared faster than members of an enumeration."""

from __future__ import annotations

from typing import Final

from ..wire import Kind

HELLO: Final = int(Kind.HELLO)
CONTROL: Final = int(Kind.CONTROL)
DATA: Final = int(Kind.DATA)
PROBE: Final = int(Kind.PROBE)
BUNDLE: Final = int(Kind.BUNDLE)
ROLL: Final = int(Kind.ROLL)
STAND: Final = int(Kind.STAND)
REPORT: Final = int(Kind.REPORT)
LINK: Final = int(Kind.LINK)
