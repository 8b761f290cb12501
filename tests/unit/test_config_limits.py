"""Every number of a cluster file passes at its limits and is refused one past them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from phalanx.transport import config as limits
from phalanx.transport.config import MS, ClusterConfig, Limits, SctpTuning
from phalanx.transport.config_file import parse
from phalanx.transport.errors import ConfigError

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"

CLUSTER = '[cluster]\nname = "c"\n'
RAIL = '[[rail]]\nname = "a"\nnetwork = "10.71.0.0/24"\n'
NODE = '[[node]]\nname = "alpha"\nid = 1\n'
GOOD = CLUSTER + RAIL + NODE
DURATION_MS_MAX = limits.DURATION_NS_MAX // MS


def read(text: str) -> ClusterConfig:
    return parse(text, file="cluster.toml")


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return caught.value


def nodes(count: int) -> str:
    return "".join(
        f'[[node]]\nname = "n{i}"\nid = {i}\naddresses = {{ a = "10.71.0.{i}" }}\n'
        for i in range(1, count + 1)
    )


def rails(count: int) -> str:
    return "".join(f'[[rail]]\nname = "r{i}"\nnetwork = "10.{i}.0.0/24"\n' for i in range(count))


def test_nodes_max() -> None:
    """Sets of nodes are bounded everywhere in the core."""
    assert len(read(CLUSTER + RAIL + nodes(limits.NODES_MAX)).nodes) == limits.NODES_MAX
    assert refused(CLUSTER + RAIL + nodes(limits.NODES_MAX + 1)).key == "node"


def test_rails_max() -> None:
    """More networks than this is a mistake of a generated file."""
    assert len(read(CLUSTER + rails(limits.RAILS_MAX) + NODE).rails) == limits.RAILS_MAX
    assert refused(CLUSTER + rails(limits.RAILS_MAX + 1) + NODE).key == "rail"


@pytest.mark.parametrize("name", ["x" * limits.NAME_BYTES_MAX, "\u00e4" * 32])
@pytest.mark.parametrize(("old", "key"), [("c", "cluster"), ("a", "rail[0]"), ("alpha", "node[0]")])
def test_name_bytes_max(name: str, old: str, key: str) -> None:
    """Names are counted in bytes of UTF-8, for that is what frames carry."""
    read(GOOD.replace(f'"{old}"', f'"{name}"'))
    error = refused(GOOD.replace(f'"{old}"', f'"{name}x"'))
    assert error.key == f"{key}.name"
    assert "65 bytes" in error.problem


# "@" is the place of the number. Where a relation to another setting is the lower limit, that
# setting is given, so that both ends are those of the number itself or of the relation.
_SCTP_OTHERS = {
    "rto_min_ms": "sack_delay_ms = 1\nrto_initial_ms = 3600000\nrto_max_ms = 3600000\n",
    "rto_initial_ms": "sack_delay_ms = 1\nrto_min_ms = 2\nrto_max_ms = 3600000\n",
    "rto_max_ms": "sack_delay_ms = 1\nrto_min_ms = 2\nrto_initial_ms = 2\n",
    "sack_delay_ms": "rto_min_ms = 501\nrto_initial_ms = 501\nrto_max_ms = 501\n",
    "path_max_retrans": "pf_threshold = 1\n",
    "pf_threshold": "path_max_retrans = 65535\n",
}
_SCTP_RANGES = {
    **{item.name: (1, limits.SCTP_COUNT_MAX) for item in fields(SctpTuning)},
    "heartbeat_ms": (1, DURATION_MS_MAX),
    "rto_min_ms": (2, DURATION_MS_MAX),
    "rto_initial_ms": (2, DURATION_MS_MAX),
    "rto_max_ms": (2, DURATION_MS_MAX),
    "sack_delay_ms": (1, limits.SACK_DELAY_MS_MAX),
    "init_timeout_ms": (1, limits.INIT_TIMEOUT_MS_MAX),
    "pf_threshold": (0, limits.SCTP_COUNT_MAX),
    "send_buffer_bytes": (limits.SOCKET_BUFFER_BYTES_MIN, limits.BUFFER_BYTES_MAX),
    "receive_buffer_bytes": (limits.SOCKET_BUFFER_BYTES_MIN, limits.BUFFER_BYTES_MAX),
}
_BULK_ACK = f"[timing]\nrecast_ms = {DURATION_MS_MAX}\nbulk_ack_delay_ms = @\n"
_SMALL = "bulk_batch_bytes = 1024\nbatch_bytes = 1024\n"
_LIMIT_OTHERS = {
    "bulk_batch_bytes": "",
    "batch_bytes": "bulk_batch_bytes = 1024\n",
    "window_bytes": _SMALL + f"link_backlog_bytes = {limits.BUFFER_BYTES_MAX}\n",
    "bulk_in_flight_bytes": _SMALL,
    "link_backlog_bytes": _SMALL + "window_bytes = 1024\n",
}
_LIMIT_RANGES = {
    **{item.name: (1, limits.BUFFER_BYTES_MAX) for item in fields(Limits)},
    "batch_bytes": (limits.BATCH_BYTES_MIN, limits.BATCH_BYTES_MAX),
    "bulk_batch_bytes": (limits.BATCH_BYTES_MIN, limits.BATCH_BYTES_MAX),
    "batch_messages_max": (1, limits.BATCH_MESSAGES_CEILING),
    "window_bytes": (1024, limits.BUFFER_BYTES_MAX),
    "bulk_in_flight_bytes": (1024, limits.BUFFER_BYTES_MAX),
    "link_backlog_bytes": (1024, limits.BUFFER_BYTES_MAX),
}
RANGES: dict[str, tuple[str, int, int]] = {
    "node[0].id": (GOOD.replace("id = 1", "id = @"), 1, limits.NODE_ID_MAX),
    "node[1].votes": (
        GOOD + '[[node]]\nname = "beta"\nid = 2\naddresses = { a = "10.71.0.2" }\nvotes = @\n',
        0,
        limits.VOTES_MAX,
    ),
    "node[0].port": (GOOD + "port = @\n", 1, limits.PORT_MAX),
    "node[0].udp_port": (GOOD + "udp_port = @\n", 1, limits.PORT_MAX),
    "node[0].datagram_port": (GOOD + "datagram_port = @\n", 1, limits.PORT_MAX),
    "timing.switch_back_probes": (GOOD + "[timing]\nswitch_back_probes = @\n", 1, 1000),
    "timing.call_timeout_ms": (GOOD + "[timing]\ncall_timeout_ms = @\n", 1, DURATION_MS_MAX),
    "timing.ack_delay_ms": (GOOD + "[timing]\nack_delay_ms = @\n", 0, DURATION_MS_MAX),
    "timing.bulk_ack_delay_ms": (GOOD + _BULK_ACK, 0, DURATION_MS_MAX - 1),
    "timing.hold_down_ms": (GOOD + "[timing]\nhold_down_ms = @\n", 0, DURATION_MS_MAX),
    "timing.flap_hold_max_ms": (GOOD + "[timing]\nflap_hold_max_ms = @\n", 0, DURATION_MS_MAX),
    "timing.flap_half_life_ms": (GOOD + "[timing]\nflap_half_life_ms = @\n", 1, DURATION_MS_MAX),
    "timing.drift": (GOOD + "[timing]\ndrift = @\n", 1, int(limits.DRIFT_MAX)),
    **{
        f"timing.sctp.{name}": (
            f"{GOOD}[timing.sctp]\n{_SCTP_OTHERS.get(name, '')}{name} = @\n",
            *bounds,
        )
        for name, bounds in _SCTP_RANGES.items()
    },
    **{
        f"limits.{name}": (f"{GOOD}[limits]\n{_LIMIT_OTHERS.get(name, '')}{name} = @\n", *bounds)
        for name, bounds in _LIMIT_RANGES.items()
    },
}


@pytest.mark.parametrize("key", sorted(RANGES))
def test_a_number_passes_at_its_limits_and_is_refused_one_past_them(key: str) -> None:
    """A limit that nobody tests is off by one."""
    text, low, high = RANGES[key]
    for value in (low, high):
        read(text.replace("@", str(value)))
    for value in (low - 1, high + 1):
        problem = str(refused(text.replace("@", str(value))))
        # A relation may blame the other setting of the two, but it names both.
        assert key.rpartition(".")[2] in problem
        assert str(value) in problem


def test_a_duration_is_above_zero_and_may_be_a_fraction() -> None:
    """The shortest duration is one nanosecond; zero would make timers spin."""
    text = GOOD + "[timing]\nphase_timeout_ms = "
    assert read(f"{text}0.000001\n").timing.phase_timeout_ns == 1
    for value in ("0", "0.0000001", "-1", "inf", "nan", "1" + "0" * 400):
        assert refused(f"{text}{value}\n").key == "timing.phase_timeout_ms"


@pytest.mark.parametrize("value", ["0.999", "2.001", "nan", "inf"])
def test_drift_is_a_ratio_from_one_to_its_maximum(value: str) -> None:
    """Below one, a grantor would wait for less than the lease."""
    assert refused(f"{GOOD}[timing]\ndrift = {value}\n").key == "timing.drift"


@pytest.mark.parametrize("name", ["path_suspect", "suspect", "lease"])
def test_two_heartbeats_fit_into_what_they_feed(name: str) -> None:
    """One lost packet must neither raise a suspicion nor end a lease."""
    text = f"{GOOD}[timing]\nheartbeat_ms = 50\n{name}_ms = "
    assert getattr(read(f"{text}100\n").timing, f"{name}_ns") == 100 * MS
    error = refused(f"{text}99.999\n")
    assert error.key == f"timing.{name}_ms"
    assert "heartbeat_ms 50" in error.problem


def test_a_heartbeat_alone_is_blamed_when_it_alone_was_set() -> None:
    """The key in an error is one that stands in the file."""
    assert refused(f"{GOOD}[timing]\nheartbeat_ms = 63\n").key == "timing.heartbeat_ms"
    assert read(f"{GOOD}[timing]\nheartbeat_ms = 62.5\n").timing.heartbeat_ns == 62_500_000


def _documented() -> dict[str, list[str]]:
    """The cells of each row of the tables in docs/configuration.md, by section and key."""
    section, rows = "", dict[str, list[str]]()
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("#"):
            section = line.strip("# []")
        if line.startswith("| `"):
            keys, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            names = keys.split(", ")
            for place, key in enumerate(names):
                # "100, 500" beside "`a`, `b`" are the values of a and b.
                split = [(cell, cell.split(", ")) for cell in cells[:3]]
                rows[f"{section}.{key.strip('`')}"] = [
                    parts[place] if len(parts) == len(names) else cell for cell, parts in split
                ]
    return rows


@pytest.mark.parametrize("profile", sorted(limits.PROFILES))
def test_the_documentation_has_the_values_of_every_profile(profile: str) -> None:
    """A table that is wrong is worse than none."""
    rows, timing = _documented(), limits.PROFILES[profile]
    column = ["lan", "lan-fast", "wan"].index(profile)
    for item in fields(timing):
        if item.name not in ("profile", "sctp"):
            value = getattr(timing, item.name)
            key = item.name.removesuffix("_ns")
            name, shown = (key, value) if key == item.name else (f"{key}_ms", value / MS)
            assert rows[f"timing.{name}"][column] == f"{shown:g}"
    for item in fields(timing.sctp):
        value = getattr(timing.sctp, item.name)
        if not item.name.endswith("_bytes"):
            assert rows[f"timing.sctp.{item.name}"][column] == str(value)


def test_the_documentation_has_every_limit_with_its_default() -> None:
    """The same for the limits."""
    rows, units = _documented(), {"MiB": 1 << 20, "KiB": 1 << 10}
    for item in fields(Limits):
        number, _, unit = rows[f"limits.{item.name}"][0].partition(" ")
        assert int(number) * units.get(unit, 1) == getattr(Limits(), item.name)
