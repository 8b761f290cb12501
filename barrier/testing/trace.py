"""A run of a plan as text."""

from __future__ import annotations

from typing import TextIO

from phalanx.transport.testing.trace import Tracer
from phalanx.transport.testing.trace_text import plain

from .. import channel_messages
from ..core import CHANNEL
from ..messages import Arrive, Carried, decode
from .plan import Plan
from .run import Run


def write_trace(plan: Plan, file: TextIO) -> str:
    """Play the plan and write down everything; returns what broke, or nothing."""
    run = Run(plan)

    def put(line: str) -> None:
        print(line, file=file)

    def tell(line: str) -> None:
        tracer.flush()
        put(f"{line}  <--")

    run.tell = tell
    for name in (
        "seed",
        "size",
        "rails",
        "tie_breaker",
        "small_limits",
        "clock_rates",
        "reads_after_ns",
    ):
        put(f"# {name} = {getattr(plan, name)}")
    for fault in (*plan.faults, *filter(None, (plan.lasting, plan.forced))):
        put(f"# fault: {fault}")
    tracer = Tracer(run.simulation, put, entry=entry_text)
    complaint = ""
    try:
        run.play()
    except AssertionError as broken:
        complaint = str(broken)
    tracer.flush()
    put(f"# {complaint or 'every guarantee held'}".replace("\n", "\n# "))
    put(f"# hash of all histories: {run.trace()}")
    return complaint


def entry_text(channel: str, payload: bytes) -> str:
    """An entry of barriers or of openings in words; empty for what is neither."""
    if channel == channel_messages.CONTROL:
        return _opening_text(payload)
    message = decode(payload, sender=0) if channel == CHANNEL else None
    if message is None:
        return ""
    carried = "".join(map(_carried_text, message.carried))
    if isinstance(message, Arrive):
        return f"arrives at {message.name}{carried}"
    return f"withdraws from {message.name} ({message.cause.value}){carried}"


def _opening_text(payload: bytes) -> str:
    match channel_messages.decode(payload):
        case channel_messages.Open(name=name, takes=takes):
            return f"opens {name!r}{', wants state' if takes else ''}"
        case channel_messages.Have(name=name, at=at, can=can):
            word = "can" if can is channel_messages.Can.GIVE else "cannot"
            return f"{word} give the state of {name!r} at position {at.index}"
        case channel_messages.Take(name=name, at=at, donor=donor):
            return f"takes the state of {name!r} at position {at.index} from {donor or 'nobody'}"
        case channel_messages.Part(name=name, at=at, size=size):
            return f"state of {name!r} at position {at.index}: {size} bytes"
        case None:
            return ""


def _carried_text(carried: Carried) -> str:
    opened = carried.opened
    place = f"{opened.era}.{opened.k} position {opened.index}"
    return f", carried from {place} where {plain(carried.arrived)} had arrived"
