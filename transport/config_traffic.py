"""The part of a cluster file that says how the rails share the work, and by which groups."""

from __future__ import annotations

import ipaddress
from typing import Final

from . import config as limits
from .config import ACTIVE, MS, PASSIVE, Timing, TrafficConfig
from .toml_table import Table

RAILS: Final = (PASSIVE, ACTIVE)
_KEYS: Final = (
    "rails",
    "datagrams",
    "multicast",
    "fallback",
    "multicast_port",
    "multicast_hops",
    "evict_slow_ms",
)


def read_traffic(table: Table, timing: Timing, driver: str) -> TrafficConfig:
    """The section `[traffic]`; without SCTP datagrams carry everything."""
    table.only(_KEYS)
    alone = driver == limits.MULTICAST
    defaults = TrafficConfig(multicast=alone, fallback=alone)
    rails = table.choice("rails", RAILS, defaults.rails)
    datagrams = table.flag("datagrams", default=defaults.datagrams)
    multicast = table.flag("multicast", default=defaults.multicast)
    fallback = table.flag("fallback", default=defaults.fallback)
    for name, value in (("datagrams", datagrams), ("fallback", fallback)):
        if alone and not value:
            raise table.error(
                name,
                f'is false, and with driver = "{driver}" there is nothing else',
                f"write {name} = true, or another driver",
            )
    if fallback and not datagrams:
        raise table.error(
            "fallback",
            "is wanted without datagrams, and it is made of these",
            "write datagrams = true, or fallback = false",
        )
    if multicast and not datagrams:
        raise table.error(
            "multicast",
            "is wanted without datagrams, and it is datagrams that go to a group",
            "write datagrams = true, or multicast = false",
        )
    if rails == ACTIVE and not datagrams:
        raise table.error(
            "rails",
            f'is "{ACTIVE}" without datagrams, and the second copy of everything is one',
            f'write datagrams = true, or rails = "{PASSIVE}"',
        )
    return TrafficConfig(
        rails=rails,
        datagrams=datagrams,
        multicast=multicast,
        fallback=fallback,
        multicast_port=table.integer("multicast_port", 1, limits.PORT_MAX, defaults.multicast_port),
        multicast_hops=table.integer("multicast_hops", 1, limits.HOPS_MAX, defaults.multicast_hops),
        evict_slow_ns=_evict_slow(table, 2 * timing.suspect_ns)
        if table.has("evict_slow_ms")
        else 0,
    )


def _evict_slow(table: Table, least_ns: int) -> int:
    """A stream that stands still is mended first, by another path and then by a new association."""
    most_ms, wanted = limits.DURATION_NS_MAX // MS, "milliseconds, or 0 for never"
    value = round(table.number("evict_slow_ms", 0, most_ms, wanted) * MS)
    if 0 < value < least_ns:
        raise table.error(
            "evict_slow_ms",
            f"{value / MS:g} is less than twice suspect_ms, {least_ns / MS:g}",
            "give what mends a stream that stands still the time to do so",
        )
    return value


def read_group(table: Table, version: int) -> str:
    """The multicast group of a rail; empty if the file names none."""
    text = table.text("group", "")
    if not text:
        return ""
    example = "239.192.0.1" if version == 4 else "ff15::1"
    try:
        group = ipaddress.ip_address(text)
    except ValueError as error:
        raise table.error(
            "group", f"{text!r} is no address", f'write it like "{example}"'
        ) from error
    if group.version != version or not group.is_multicast:
        raise table.error(
            "group",
            f"{group} is no multicast group of IPv{version}",
            f'write one like "{example}", or leave it out',
        )
    return str(group)
