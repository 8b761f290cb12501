"""A report as lines of JSON: the machine, then a line a result with the same names for the same.

Whoever compares systems or runs reads lines, of any program of this folder, without knowing which.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, cast

import msgspec

from .figures import OWN

NAMES = ("system", "nodes", "size", "p50_us", "p99_us", "msgs_per_s", "mb_per_s")
COST = "cpu_s_per_million"
_OTHERWISE = {"size_bytes": "size", "per_s": "msgs_per_s", "per_s_range": "msgs_per_s_range"}
"""What results call otherwise in the programs."""


def in_lines(report: Any) -> Iterator[str]:
    """The lines of a report, which is a dataclass of `*_result.py`."""
    bench = report.bench
    first = {"bench": bench, "machine": report.machine, "versions": report.versions}
    yield msgspec.json.encode(first).decode()
    for field in dataclasses.fields(report):
        value: object = getattr(report, field.name)
        for row in cast("list[object]", value) if isinstance(value, list) else [value]:
            if field.name not in first and dataclasses.is_dataclass(row):
                yield msgspec.json.encode(_line(bench, field.name, row)).decode()


def _line(bench: str, what: str, row: Any) -> dict[str, object]:
    found = {
        _OTHERWISE.get(it.name, it.name): getattr(row, it.name) for it in dataclasses.fields(row)
    }
    if what == "verdicts":
        return {"bench": bench, **found}
    system = found.get("system", OWN)
    usual = {name: found.pop(name, None) for name in (*NAMES, COST)}
    return {"bench": bench, "result": what, **usual, "system": system, **found}
