"""Deliberate bugs in what mends datagrams, and in how one carrier takes over from another."""

from __future__ import annotations

from .mutant import CORE, Edit, Mutant, one

REPAIR = CORE + "repair.py"
UDP_LINK = CORE + "udp_link.py"
UDP_LINKS = CORE + "udp_links.py"
CARRYING = CORE + "carrying.py"
FALLBACK = CORE + "fallback.py"

CARRIERS = (
    one(
        "floor-passes-what-is-missing",
        "7, repair: everything below the floor has come, or was given up",
        REPAIR,
        "        while self.floor < self._top and self.floor not in self._gaps:\n",
        "        while self.floor < self._top:\n            self._gaps.pop(self.floor, None)\n",
    ),
    one(
        "next-number-hides-a-gap",
        "7, repair: the next number is next only if nothing before it is missing",
        REPAIR,
        "        if number != self._top % NUMBERS or self.floor != self._top:\n",
        "        if number != self._top % NUMBERS:\n",
    ),
    one(
        "gap-is-not-noticed",
        "7, repair: a later number shows that earlier ones are missing",
        REPAIR,
        "        for number in range(self._top, top):\n",
        "        for number in range(self._top, top - 1):\n",
    ),
    Mutant(
        "link-never-sends-again",
        "7, links: what is not acknowledged in time goes again, and so does what lacks",
        (
            Edit(
                UDP_LINK,
                "            if part.sent_ns <= before_ns:\n",
                "            if part.sent_ns < 0:\n",
            ),
            Edit(
                UDP_LINK,
                "            if flying is not None and number >= floor and "
                "now_ns - flying.sent_ns >= hold_ns:\n",
                "            if flying is not None and number < 0:\n",
            ),
        ),
    ),
    one(
        "lacking-counts-as-come",
        "7, links: what the receiver lacks has not come, though it is below what has",
        UDP_LINK,
        "        come = [it for it in self._flying if it < top and it not in lacking]\n",
        "        come = [it for it in self._flying if it < top]\n",
    ),
    one(
        "overtaken-parts-are-dropped",
        "7, links: what comes before its turn is acknowledged, and so has to be kept",
        UDP_LINK,
        "        if place < stream.following or place > stream.following + EARLY_MAX:\n",
        "        if place != stream.following:\n",
    ),
    one(
        "carrier-changes-without-a-word",
        "7, switch: on the next carrier everything that a member does not hold goes again",
        CARRYING,
        "        self.synced.discard(node)\n        self.casting.forget(node)\n",
        "        self.casting.forget(node)\n",
    ),
    one(
        "nobody-falls-back",
        "7, switch: whom SCTP does not reach is reached by datagrams",
        FALLBACK,
        "        return urgent or (peer.link <= 0 and self._may_open(node))\n",
        "        return False\n",
    ),
    one(
        "link-outlives-its-peer",
        "7, links: a session of the peer's that is new ends the link that was there",
        UDP_LINKS,
        "            self._end(link, LossReason.RESTARTED)\n            link = None\n",
        "            link.echo = session\n",
    ),
    one(
        "any-session-will-do",
        "7, links: what belongs to a link that is over is not taken for another one's",
        UDP_LINKS,
        "        if link is None or echo != link.session or "
        "(link.echo and session not in (0, link.echo)):\n",
        "        if link is None:\n",
    ),
)
