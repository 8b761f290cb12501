"""The hash of what all nodes have to agree on."""

from __future__ import annotations

import pytest

from phalanx.transport.config_file import config_hash, config_key_hashes

from .config_texts import ALPHA, BETA, CLUSTER, GOOD, RAIL_A, RAIL_B, read

AGREED = {
    "cluster.name": ('name = "c"', 'name = "d"'),
    "rail.a.network": ("10.71.0.0/24", "10.71.0.0/25"),
    "node.2.name": ('"beta"', '"bet"'),
    "node.2.votes": ("id = 2", "id = 2\nvotes = 2"),
    "quorum.tie_breaker": (RAIL_A, "[quorum]\ntie_breaker = 1\n" + RAIL_A),
    "timing.lease_ms": (RAIL_A, "[timing]\nlease_ms = 500\n" + RAIL_A),
    "timing.drift": (RAIL_A, "[timing]\ndrift = 1.06\n" + RAIL_A),
}


@pytest.mark.parametrize("key", sorted(AGREED))
def test_the_hash_of_an_agreed_entry_changes_with_it_alone(key: str) -> None:
    """Nodes that disagree on it may each see a majority, and the error has to name it."""
    old, new = AGREED[key]
    before, after = read(GOOD), read(GOOD.replace(old, new, 1))
    assert config_hash(before) != config_hash(after)
    one, other = config_key_hashes(before), config_key_hashes(after)
    assert {k for k in one | other if one.get(k) != other.get(k)} == {key}


@pytest.mark.parametrize(("old", "new"), [("id = 2", "id = 3"), ('name = "b"', 'name = "x"')])
def test_an_entry_that_only_one_file_has_changes_the_hash(old: str, new: str) -> None:
    """A node or a rail more is a different cluster."""
    changed = GOOD.replace(old, new).replace(", b =", ", x =" if "x" in new else ", b =")
    assert config_hash(read(GOOD)) != config_hash(read(changed))
    assert config_key_hashes(read(GOOD)).keys() != config_key_hashes(read(changed)).keys()


@pytest.mark.parametrize(
    "same",
    [
        CLUSTER + RAIL_B + RAIL_A + BETA + ALPHA,
        GOOD.replace("10.71.0.2", "10.71.0.9"),
        GOOD + "port = 1\nudp_port = 2\n",
        GOOD + "datagram_port = 7\n[traffic]\ndatagrams = false\n",
        GOOD + "[limits]\nqueue_bytes = 99\n",
        GOOD + "[timing]\nsuspect_ms = 300\n",
        GOOD.replace('name = "c"', 'name = "c"\nstate_dir = "/x"\ndriver = "user_sctp"'),
    ],
)
def test_the_hash_leaves_out_what_may_differ(same: str) -> None:
    """Addresses, ports and limits are a matter of each host; order is no content."""
    assert config_hash(read(same)) == config_hash(read(GOOD))
    assert config_key_hashes(read(same)) == config_key_hashes(read(GOOD))


def test_the_hash_is_the_same_in_every_version() -> None:
    """It is compared across machines: a change of its form would split running clusters."""
    assert config_hash(read(GOOD)) == "403cabf2ee60056f11eda15dc14bc886"
    assert all(len(value) == 32 for value in config_key_hashes(read(GOOD)).values())
