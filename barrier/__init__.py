"""phalanx.barrier: named barriers, and the order that comes from them.

Import this before joining a cluster: every cluster opened afterwards carries the barrier layer.
"""

from phalanx.transport.layers import register

from .arrival import Arrival
from .core import BarrierCore
from .double import Double
from .events import GenerationStatus, Registration, Release, Skew
from .explain import Explanation
from .party import Party
from .service import LAYER, Barriers
from .settings import Policy, Strength

register(LAYER, BarrierCore)

__all__ = [
    "Arrival",
    "BarrierCore",
    "Barriers",
    "Double",
    "Explanation",
    "GenerationStatus",
    "Party",
    "Policy",
    "Registration",
    "Release",
    "Skew",
    "Strength",
]
