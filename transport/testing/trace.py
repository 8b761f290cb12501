"""A run as text: who sent what to whom, what each node did and was told, in virtual time.

Traces are for reading: short scenarios of them document the protocol (`docs/protocol.md`), and
`phalanx sim --trace` writes one for any seed. A frame stands where it is sent, once for all to
whom it goes in one turn. Probes are left out, or nothing else would be seen, and so are rows and
acknowledgements if they are not asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from ..._native import codec
from .. import wire
from ..config import MS
from ..core.endpoint import Endpoint
from ..core.framing import unbundle
from ..events import Member, ViewId
from ..wire_data import decode_data
from ..wire_roll import decode_roll
from .simulated_node import Life, SimulatedNode
from .simulation import Simulation
from .trace_text import (
    EntryText,
    ballot_text,
    data_text,
    items_texts,
    message_text,
    no_entry,
    plain,
)

CHATTER: tuple[type[wire.Control], ...] = (wire.Row, wire.Ack)
"""Messages that come all the time and say little; shown only where they are asked for."""
GIVEN_UP = "attempt given up: "


@dataclass(slots=True, kw_only=True)
class _Seen:
    """How much of one life is written."""

    told: int = 0
    """Of its history."""
    content: bytes | None = None
    record: wire.Record | None = None
    dead: set[Member] = field(default_factory=set[Member])
    stopped: frozenset[int] = frozenset()
    closed: int = 0
    acting: ViewId | None = None
    counters: Counter[str] = field(default_factory=Counter[str])


@dataclass(slots=True)
class _Line:
    """One line: what some nodes do at one time, or what they send to some others."""

    text: str
    nodes: list[int]
    targets: list[int]
    """Empty for what is no frame."""

    def take_note(self, node: int) -> bool:
        """One more node does the same, if it is no frame."""
        if not self.targets:
            self.nodes.append(node)
        return not self.targets

    def take_frame(self, source: int, target: int) -> bool:
        """The same goes to one more node, or comes from one more."""
        if self.nodes == [source] and self.targets and target not in self.targets:
            self.targets.append(target)
            return True
        if self.targets == [target] and source not in self.nodes:
            self.nodes.append(source)
            return True
        return False

    def who(self) -> str:
        """The column before the text."""
        nodes = " ".join(map(str, sorted(self.nodes)))
        targets = " ".join(map(str, sorted(self.targets)))
        return f"{nodes} -> {targets}" if targets else nodes


_ALL_THE_TIME = (wire.Kind.PROBE, wire.Kind.STAND, wire.Kind.REPORT, wire.Kind.LINK)
"""Heartbeats, and what mends datagrams. What links carry is shown when it is handed over."""


class Tracer:
    """Writes a line for each frame, step and event of a simulation from now on."""

    def __init__(
        self,
        simulation: Simulation,
        put: Callable[[str], None],
        *,
        origin_ns: int = 0,
        shown: Collection[type[wire.Control]] = (),
        entry: EntryText = no_entry,
    ) -> None:
        """
        Args:
            simulation: what is looked at.
            put: takes the lines.
            origin_ns: the time that is called 0.
            shown: which of `CHATTER` are written nevertheless.
            entry: the words for what layers publish.
        """
        self._simulation = simulation
        self._put = put
        self._origin_ns = origin_ns
        self._left_out = tuple(kind for kind in CHATTER if kind not in shown)
        self._entry = entry
        self._cluster = codec.cluster_id(simulation.config.name)
        self._seen: dict[int, _Seen] = {}
        """By the place of the life among all lives."""
        self._width = sum(len(str(node)) + 1 for node in simulation.nodes) + 3
        """Room for what one sends to all others."""
        self._lines: list[_Line] = []
        """Of the moment `_lines_ns`."""
        self._lines_ns = 0
        for place, life in enumerate(simulation.lives):
            node = simulation.nodes[life.member.node]
            known = life is node.life and node.running
            self._seen[place] = _seen_now(node) if known else _Seen(told=len(life.history))
        simulation.network.watches.append(self._frame)
        simulation.after_turn.append(self._turned)

    # ---------------------------------------------------------------------------- the lines

    def say(self, text: str) -> None:
        """What is done to the cluster from outside."""
        self.flush()
        self._write(self._simulation.network.now_ns, "***", text)

    def flush(self) -> None:
        """Write what is held back because others might do the same at the same time."""
        lines, self._lines = self._lines, []
        for line in lines:
            self._write(self._lines_ns, line.who(), line.text)

    def _write(self, at_ns: int, who: str, text: str) -> None:
        self._put(f"{(at_ns - self._origin_ns) / MS:10.3f}  {who:<{self._width}}  {text}")

    def _now(self) -> list[_Line]:
        """The lines of this moment."""
        now_ns = self._simulation.network.now_ns
        if now_ns != self._lines_ns:
            self.flush()
            self._lines_ns = now_ns
        return self._lines

    def _note(self, node: SimulatedNode, text: str) -> None:
        # What one node does stands in the order in which it does that.
        for line in reversed(self._now()):
            if node.id in line.nodes:
                break
            if line.text == text and line.take_note(node.id):
                return
        self._lines.append(_Line(text, [node.id], []))

    # ------------------------------------------------------------------------------- frames

    def _frame(self, source: int, target: int, frame: bytes, rail: str | None) -> None:
        text = "" if rail is not None else self._text(frame)
        if not text:
            return
        self._look(self._simulation.nodes[source])
        for line in reversed(self._now()):
            if line.text == text:
                if line.take_frame(source, target):
                    return
            elif source in line.nodes and (not line.targets or target in line.targets):
                break
        self._lines.append(_Line(text, [source], [target]))

    def _text(self, frame: bytes) -> str:
        """What a frame says, in a line; empty for what is left out."""
        head = codec.decode_frame(frame, self._cluster)
        if isinstance(head, codec.FrameError):
            return f"malformed frame of {len(frame)} bytes: {head.name}"
        kind, offset = head.kind, head.body_offset
        if kind in _ALL_THE_TIME:
            return ""
        if kind == wire.Kind.DATA:
            return self._data(frame, offset)
        if kind == wire.Kind.BUNDLE:
            bodies = unbundle(frame, offset)
            return "; ".join(self._data(b, 0) for b in bodies) if bodies else "malformed BUNDLE"
        if kind == wire.Kind.ROLL:
            roll = decode_roll(frame, offset)
            bodies = roll.bodies() if roll is not None else None
            return "; ".join(self._data(b, 0) for b in bodies) if bodies else "malformed ROLL"
        body = memoryview(frame)[offset:]
        message = wire.decode_hello(body) if kind == wire.Kind.HELLO else wire.decode_control(body)
        if message is None:
            return f"malformed frame of {len(frame)} bytes"
        return "" if isinstance(message, self._left_out) else message_text(message)

    def _data(self, frame: bytes, offset: int) -> str:
        data = decode_data(frame, offset)
        return data_text(data, frame, self._entry) if data is not None else "malformed DATA"

    # -------------------------------------------------------------------- what a node does

    def _turned(self, node: SimulatedNode) -> None:
        """A turn is over."""
        seen = self._look(node)
        endpoint = node.endpoint
        view = endpoint.view
        acting = view.id if view is not None and endpoint.acting(node.clock()) else None
        closed = endpoint.standing.closed_for
        if closed and closed != seen.closed and view is not None:
            self._note(node, f"closes {plain(view.id)}")
        elif acting != seen.acting:
            self._note(node, f"acts in {plain(acting)}" if acting else "acts no more")
        seen.acting, seen.closed = acting, closed

    def _look(self, node: SimulatedNode) -> _Seen:
        """Say what is new in a node, before what it sends because of that."""
        life = node.life
        place = _place(self._simulation.lives, life)
        seen = self._seen.get(place)
        if seen is None:
            content = node.disk.content
            record = wire.decode_record(content) if content is not None else None
            seen = self._seen[place] = _Seen(content=content, record=record)
            if node.pump is not None:
                voter = node.endpoint.acceptor.record.voter
                self._note(node, f"starts as {plain(life.member)}{'' if voter else ', no vote'}")
        if node.pump is not None:
            for text in self._steps(node, seen):
                self._note(node, text)
        fresh, seen.told = life.history[seen.told :], len(life.history)
        for text in items_texts([item for _, item in fresh], self._entry):
            self._note(node, text)
        return seen

    def _steps(self, node: SimulatedNode, seen: _Seen) -> list[str]:
        """What has changed within a node since it was looked at, in words."""
        endpoint = node.endpoint
        texts: list[str] = []
        if node.disk.content is not seen.content:
            seen.content, before = node.disk.content, seen.record
            seen.record = wire.decode_record(seen.content) if seen.content is not None else None
            texts += _record_steps(before, seen.record)
        counters = endpoint.outputs.counters
        if counters != seen.counters:
            fresh = counters - seen.counters
            seen.counters = counters.copy()
            texts += [f"gives up: {n.removeprefix(GIVEN_UP)}" for n in fresh if GIVEN_UP in n]
            texts += ["adopts what was accepted before"] if fresh["adopted"] else []
        if endpoint.peers.dead != seen.dead:
            texts += [
                _end_of(member, endpoint) for member in sorted(endpoint.peers.dead - seen.dead)
            ]
            seen.dead = set(endpoint.peers.dead)
        if endpoint.gather.stopped != seen.stopped:
            texts += _grant_steps(seen.stopped, endpoint)
            seen.stopped = endpoint.gather.stopped
        return texts


def _seen_now(node: SimulatedNode) -> _Seen:
    endpoint, content = node.endpoint, node.disk.content
    view = endpoint.view
    return _Seen(
        told=len(node.life.history),
        content=content,
        record=wire.decode_record(content) if content is not None else None,
        dead=set(endpoint.peers.dead),
        stopped=endpoint.gather.stopped,
        closed=endpoint.standing.closed_for,
        acting=view.id if view is not None and endpoint.acting(node.clock()) else None,
        counters=endpoint.outputs.counters.copy(),
    )


def _place(lives: list[Life], life: Life) -> int:
    """Lives are looked for from the end: the current ones are among the last."""
    return next(place for place in reversed(range(len(lives))) if lives[place] is life)


def _end_of(member: Member, endpoint: Endpoint) -> str:
    reason = endpoint.gather.reasons(endpoint.gather.current() - {member}).get(member.node)
    how = "has left in good order" if reason == "left in good order" else "is proven dead"
    return f"{plain(member)} {how}"


def _grant_steps(before: frozenset[int], endpoint: Endpoint) -> list[str]:
    """Members that are granted no more, or again; one that is out of the view is neither."""
    now, view = endpoint.gather.stopped, endpoint.view
    members = frozenset(view.members if view is not None else ())
    texts: list[str] = []
    if now - before:
        texts.append(f"grants no more to {plain(now - before)}")
    if (before - now) & members:
        texts.append(f"grants again to {plain((before - now) & members)}")
    return texts


def _record_steps(before: wire.Record | None, now: wire.Record | None) -> list[str]:
    """What has become durable of a node's part in the log of views."""
    if now is None:
        return ["its record is gone or damaged"]
    parts: list[str] = []
    if before is None or now.decided != before.decided:
        parts += [f"decided {plain(now.decided.id)}"] if now.decided is not None else []
    accepted = before is None or now.accepted_ballot != before.accepted_ballot
    if accepted and now.accepted is not None:
        parts.append(f"accepted {ballot_text(now.accepted_ballot)} {plain(now.accepted.id)}")
    elif (before is None or now.promised != before.promised) and now.promised != wire.NO_BALLOT:
        parts.append(f"promised {ballot_text(now.promised)}")
    return [f"durable: {', '.join(parts)}"] if parts else []
