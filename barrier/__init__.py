"""phalanx.barrier: named barriers, and the order that comes from them.

Import this before joining a cluster: every cluster opened afterwards carries the barrier layer.
"""

from phalanx.transport.layers import register

from .core import BarrierCore
from .events import GenerationStatus, Release
from .messages import Strength
from .service import LAYER, Arrival, Barriers

register(LAYER, BarrierCore)

__all__ = [
    "Arrival",
    "BarrierCore",
    "Barriers",
    "GenerationStatus",
    "Release",
    "Strength",
]
