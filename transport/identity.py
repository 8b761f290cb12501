"""Translates between node ids, names and UUIDs.

The wire and the core know a node by its id alone; names are for people and UUIDs for other
systems. Nothing on the path of a message comes through here.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TypeVar

from .config import ClusterConfig, NodeConfig

_K = TypeVar("_K")
_V = TypeVar("_V")

_NAMESPACE = uuid.UUID("6f0e6c0e-5d4b-5f3c-9a43-0d6b5c3a7d11")
"""Chosen once at random; UUIDs derived below it are those of phalanx and of nobody else."""


class Identities:
    """The nodes of one configuration, by each of their identifiers."""

    def __init__(self, config: ClusterConfig) -> None:
        self._by_id = {node.id: node for node in config.nodes}
        self._by_name = {node.name: node for node in config.nodes}
        # Nested, so that no two pairs of cluster and node name give the same text.
        cluster = uuid.uuid5(_NAMESPACE, config.name)
        self._uuids = {
            node.id: uuid.UUID(node.uuid) if node.uuid else uuid.uuid5(cluster, node.name)
            for node in config.nodes
        }
        self._by_uuid = {value: node for node, value in self._uuids.items()}
        assert len(self._by_uuid) == len(config.nodes), "node ids, names and UUIDs are unique"

    def __iter__(self) -> Iterator[NodeConfig]:
        return iter(self._by_id.values())

    def by_name(self, name: str) -> NodeConfig:
        """The node of that name.

        Raises:
            KeyError: no such node is configured.
        """
        return self._look_up(self._by_name, name)

    def by_id(self, node: int) -> NodeConfig:
        """The node of that id.

        Raises:
            KeyError: no such node is configured.
        """
        return self._look_up(self._by_id, node)

    def name_of(self, node: int) -> str:
        """A name for messages: that of the node, or "node 7" for one that is not configured."""
        known = self._by_id.get(node)
        return known.name if known else f"node {node}"

    def uuid_of(self, node: int) -> uuid.UUID:
        """The configured UUID, or one derived from cluster and node name (RFC 9562, version 5).

        Raises:
            KeyError: no such node is configured.
        """
        return self._uuids[self.by_id(node).id]

    def id_of(self, value: uuid.UUID) -> int:
        """The id of the node with that UUID.

        Raises:
            KeyError: no configured node has it.
        """
        return self._look_up(self._by_uuid, value)

    def _look_up(self, table: dict[_K, _V], key: _K) -> _V:
        try:
            return table[key]
        except KeyError:
            known = ", ".join(f"{node.name} ({node.id})" for node in self)
            raise KeyError(f"no node {str(key)!r} is configured; known are {known}") from None
