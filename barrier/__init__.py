"""phalanx.barrier: named barriers, and the order that comes from them.

Import this before joining a cluster: every cluster opened afterwards carries the barrier layer.
"""

from phalanx.transport.layers import register

from .channel_items import Entries
from .channels import LAYER as CHANNELS_LAYER
from .channels import Entry, OrderedChannel, Publication
from .core import BarrierCore
from .events import GenerationStatus, Release
from .messages import Strength
from .order import ChannelsCore
from .service import LAYER, Arrival, Barriers

register(LAYER, BarrierCore)
register(CHANNELS_LAYER, ChannelsCore)

__all__ = [
    "Arrival",
    "BarrierCore",
    "Barriers",
    "ChannelsCore",
    "Entries",
    "Entry",
    "GenerationStatus",
    "OrderedChannel",
    "Publication",
    "Release",
    "Strength",
]
