"""Deliberate bugs in what mends datagrams, and in how one carrier takes over from another."""

from __future__ import annotations

from .mutant import CORE, one

REPAIR = CORE + "repair.py"
FALLBACK = CORE + "fallback.py"

CARRIERS = (
    one(
        "floor-passes-what-is-missing",
        "4, fan-out: everything below the floor has come, or was given up",
        REPAIR,
        "        while self.floor < self._top and self.floor not in self._gaps:\n",
        "        while self.floor < self._top:\n            self._gaps.pop(self.floor, None)\n",
    ),
    one(
        "next-number-hides-a-gap",
        "4, fan-out: the next number is next only if nothing before it is missing",
        REPAIR,
        "        if number != self._top % NUMBERS or self.floor != self._top:\n",
        "        if number != self._top % NUMBERS:\n",
    ),
    one(
        "gap-is-not-noticed",
        "4, fan-out: a later number shows that earlier ones are missing",
        REPAIR,
        "        for number in range(self._top, top):\n",
        "        for number in range(self._top, top - 1):\n",
    ),
    one(
        "nobody-falls-back",
        "4, fallback: whom SCTP does not reach is reached by datagrams",
        FALLBACK,
        "            elif self._may_open(node, now_ns):\n",
        "            elif False:\n",
    ),
)
