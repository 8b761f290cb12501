"""All deliberate bugs, in the order of the protocol."""

from __future__ import annotations

from .of_carriers import CARRIERS
from .of_messages import BARRIERS, MESSAGES
from .of_order import CHANNELS, ORDER
from .of_state import STATE
from .of_views import FORCE, LEASES, VIEWS

MUTANTS = (*VIEWS, *FORCE, *STATE, *LEASES, *MESSAGES, *ORDER, *CHANNELS, *BARRIERS, *CARRIERS)
