"""phalanx.barrier: named barriers, and the order that comes from them.

Import this before joining a cluster: every cluster opened afterwards carries the barrier layer.
"""

from phalanx.transport.layers import register

from .arrival import Arrival
from .channel_items import Entries
from .channels import LAYER as CHANNELS_LAYER
from .channels import Entry, OrderedChannel, Publication
from .core import BarrierCore
from .double import Double
from .events import GenerationStatus, Registration, Release, Skew
from .explain import Explanation
from .order import ChannelsCore
from .party import Party
from .service import LAYER, Barriers
from .settings import Policy, Strength

register(LAYER, BarrierCore)
register(CHANNELS_LAYER, ChannelsCore)

__all__ = [
    "Arrival",
    "BarrierCore",
    "Barriers",
    "ChannelsCore",
    "Double",
    "Entries",
    "Entry",
    "Explanation",
    "GenerationStatus",
    "OrderedChannel",
    "Party",
    "Policy",
    "Publication",
    "Registration",
    "Release",
    "Skew",
    "Strength",
]
