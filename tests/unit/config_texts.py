"""Good configuration files, in parts to put together."""

from __future__ import annotations

from phalanx.transport.config import ClusterConfig
from phalanx.transport.config_file import parse

CLUSTER = '[cluster]\nname = "c"\n'
RAIL_A = '[[rail]]\nname = "a"\nnetwork = "10.71.0.0/24"\n'
RAIL_B = '[[rail]]\nname = "b"\nnetwork = "10.72.0.0/24"\n'
ALPHA = '[[node]]\nname = "alpha"\nid = 1\naddresses = { a = "10.71.0.1", b = "10.72.0.1" }\n'
BETA = '[[node]]\nname = "beta"\nid = 2\naddresses = { a = "10.71.0.2", b = "10.72.0.2" }\n'
GOOD = CLUSTER + RAIL_A + RAIL_B + ALPHA + BETA
ON_ONE_MACHINE = (
    GOOD.replace("10.71.0.2", "10.71.0.1").replace("10.72.0.2", "10.72.0.1")
    + "port = 5406\nudp_port = 9901\n"
)


def read(text: str) -> ClusterConfig:
    return parse(text, file="cluster.toml")
