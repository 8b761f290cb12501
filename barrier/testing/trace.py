"""A run of a plan as text."""

from __future__ import annotations

from typing import TextIO

from phalanx.transport.testing.trace import Tracer
from phalanx.transport.testing.trace_text import plain

from .. import channel_messages, names
from ..messages import (
    Again,
    Arrive,
    Carried,
    Carry,
    Message,
    Quit,
    Register,
    Vouch,
    Withdraw,
    decode,
)
from ..outbox import CHANNEL
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
    message = decode(payload) if channel == CHANNEL else None
    return "" if message is None else _text(message, names.shown(message.name))


def _text(message: Message, name: str) -> str:
    match message:
        case Arrive(payload=payload, spoiled=spoiled):
            more = f" with {len(payload)} bytes" if payload else ""
            return f"arrives at {name}{more}" + (f", not to go on: {spoiled}" if spoiled else "")
        case Again(payload=payload):
            return f"says again what it brought to {name}, {len(payload)} bytes"
        case Withdraw(cause=cause):
            return f"withdraws from {name} ({cause.value})"
        case Carry(generations=generations, roster=roster):
            parts = list(map(_carried_text, generations))
            if roster is not None:
                parts.append(f"{plain(roster.members)} are registered")
            return f"carries {name}: {'; '.join(parts)}"
        case Register():
            return f"registers at {name}"
        case Vouch():
            return f"knows no more of {name}"
        case Quit(leaving=leaving):
            return f"is registered no more at {name} ({leaving.value})"


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
    return f"from {place} where {plain(carried.arrived)} had arrived"
