"""Ids, names and UUIDs of nodes translate into each other without loss."""

from __future__ import annotations

import uuid

import pytest

from phalanx.transport.config import ClusterConfig, NodeConfig, RailConfig
from phalanx.transport.identity import Identities

GIVEN = "12345678-1234-5678-1234-567812345678"


def identities(cluster: str = "c") -> Identities:
    return Identities(
        ClusterConfig(
            name=cluster,
            rails=(RailConfig(name="a", network="10.71.0.0/24"),),
            nodes=(
                NodeConfig(name="alpha", id=1),
                NodeConfig(name="beta", id=7, uuid=GIVEN),
            ),
        )
    )


def test_each_identifier_leads_to_the_same_node() -> None:
    """Three names, one node."""
    known = identities()
    for node in known:
        assert known.by_id(node.id) is node
        assert known.by_name(node.name) is node
        assert known.id_of(known.uuid_of(node.id)) == node.id
    assert [node.id for node in known] == [1, 7]
    assert known.name_of(7) == "beta"
    assert known.name_of(8) == "node 8"


def test_a_configured_uuid_is_kept() -> None:
    """Other systems may know the node by it already."""
    assert identities().uuid_of(7) == uuid.UUID(GIVEN)


def test_a_derived_uuid_depends_on_cluster_and_name_alone() -> None:
    """It has to be the same on every host and after every start; hence the pinned value."""
    derived = identities().uuid_of(1)
    assert derived == uuid.UUID("3b01b56b-5bf3-556a-b93c-81a5b3e47907")
    assert derived.version == 5
    assert identities("d").uuid_of(1) != derived


def test_an_unknown_identifier_names_the_known_ones() -> None:
    """The message is read by whoever mistyped a name."""
    known = identities()
    with pytest.raises(KeyError, match="no node 'gamma' is configured; known are alpha"):
        known.by_name("gamma")
    with pytest.raises(KeyError, match=r"beta \(7\)"):
        known.by_id(2)
    with pytest.raises(KeyError):
        known.uuid_of(2)
    with pytest.raises(KeyError):
        known.id_of(uuid.UUID(int=0))
