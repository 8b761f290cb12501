"""The cluster file of a lab."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ..errors import UsageError
from .lab_state import LabError, LabState


def cluster_file(state: LabState, path: Path, overrides: Mapping[str, Any]) -> Path:
    """Write a cluster file for the hosts of a lab; see `Lab.cluster_toml`.

    Raises:
        UsageError: a value that a lab cannot have.
        LabError: the file cannot be written.
    """
    rest = dict(overrides)
    number = int(rest.pop("hosts", len(state.hosts)))
    ipv6 = bool(rest.pop("ipv6", False))
    with_addresses = bool(rest.pop("addresses", True))
    node = {"port": rest.pop("port", 5405), "udp_port": rest.pop("udp_port", 9899)}
    if "datagram_port" in rest:
        node["datagram_port"] = rest.pop("datagram_port")
    if not 1 <= number <= len(state.hosts):
        raise UsageError(f"cluster_toml hosts={number}: the lab has {len(state.hosts)}")
    if ipv6 and not state.ipv6:
        raise UsageError("cluster_toml ipv6=True: build the lab with ipv6=True")
    tables: dict[str, Mapping[str, Any]]
    tables = {key: value for key, value in rest.items() if isinstance(value, Mapping)}
    # Hosts of a lab share one file system; each node makes its own folder below this one.
    cluster = {"name": f"lab-{state.name}", "state_dir": str(path.absolute().with_suffix(".state"))}
    cluster |= {key: value for key, value in rest.items() if key not in tables}
    lines = _table("[cluster]", cluster)
    for rail in state.rails:
        network = state.network(rail, ipv6=ipv6)
        lines += _table("[[rail]]", {"name": rail, "network": network})
    for host in state.hosts[:number]:
        entry = {"name": host, "id": state.number(host), **node}
        if with_addresses:
            entry["addresses"] = {r: state.address(r, host, ipv6=ipv6) for r in state.rails}
        lines += _table("[[node]]", entry)
    for key, value in tables.items():
        lines += _table(f"[{key}]", value)
    try:
        path.write_text("\n".join(lines))
    except OSError as error:
        raise LabError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def _table(header: str, values: Mapping[str, Any]) -> list[str]:
    return [header, *(f"{key} = {_value(value)}" for key, value in values.items()), ""]


def _value(value: Any) -> str:
    """One TOML value; strings as JSON writes them are TOML basic strings."""
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Any]", value)
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in table.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in cast("list[Any]", value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
