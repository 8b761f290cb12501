"""What the scenes share: a cluster whose faults are announced, and the text of what happens."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from phalanx._native import codec
from phalanx.barrier.testing.channels import Channels
from phalanx.barrier.testing.meetings import arrive, use_barriers
from phalanx.barrier.testing.plan import draw_plan
from phalanx.barrier.testing.trace import entry_text
from phalanx.transport import wire
from phalanx.transport.config import MS
from phalanx.transport.core.outputs import Delivered, RecordLost
from phalanx.transport.drivers.simulator import NetworkOptions
from phalanx.transport.events import Evicted, View, ViewInstalled
from phalanx.transport.testing import checkers
from phalanx.transport.testing.barrier_checkers import BARRIERS, Outcome
from phalanx.transport.testing.channel_checkers import CHANNELS, CHANNELS_QUIET
from phalanx.transport.testing.history import Read
from phalanx.transport.testing.rules import Referee
from phalanx.transport.testing.simulation import (
    ProcessEnded,
    SimulatedNode,
    Simulation,
    simulated_config,
)
from phalanx.transport.testing.trace import Tracer

WITHIN_NS = 3000 * MS
LEGEND = "# ms from the beginning; *** from outside; sender -> receivers, when it is sent\n"
_Item = TypeVar("_Item")


class Stage:
    """A cluster on which a scene is played; frames take exactly 0.1 ms, and a write 1 ms."""

    def __init__(self, nodes: int = 3) -> None:
        options = NetworkOptions(delay_ns=MS // 10, jitter_ns=0)
        config = simulated_config(nodes)
        # Every frame is written, and where datagrams go it would be written twice.
        config = replace(config, traffic=replace(config.traffic, datagrams=False))
        self.simulation = Simulation(config, options=options)
        self.network = self.simulation.network
        self.nodes = self.simulation.nodes
        self.lines: list[str] = []
        self.sent: list[tuple[int, wire.Control]] = []
        """Control messages since the curtain rose, with their senders."""
        self._tracer: Tracer | None = None
        self._count = 0
        for node in self.nodes.values():
            node.clock_offset_ns = node.id * 10**12  # hosts that have been up for a while
        use_barriers(self.simulation)
        plan = replace(draw_plan(0, nodes), channels_open_ns=(), channels_read_ns=(1,) * nodes)
        self.channels = Channels(self.simulation, plan)
        self.channels.after_read.append(SimulatedNode.wake_soon)  # its next turn is written down
        Referee(self.simulation)

    # --------------------------------------------------------------------------- the curtain

    def begin(self, *shown: type[wire.Control]) -> None:
        """From here on everything is written; of the chatter only what is asked for."""
        now_ns = self.network.now_ns
        self._tracer = Tracer(
            self.simulation, self.lines.append, origin_ns=now_ns, shown=shown, entry=entry_text
        )
        cluster = codec.cluster_id(self.simulation.config.name)

        def note(source: int, target: int, frame: bytes, rail: str | None) -> None:
            del target
            message = control_of(frame, cluster) if rail is None else None
            if message is not None:
                self.sent.append((source, message))

        self.network.watches.append(note)

    def started(self, *absent: int) -> Stage:
        """All nodes in their first view; then some are taken away, and the others go on."""
        self.simulation.start_all()
        self.agree(*self.nodes)
        for node in absent:
            self.nodes[node].kill()
        self.agree(*(node for node in self.nodes if node not in absent))
        self.pass_ms(60)  # a heartbeat later every lease and every acknowledgement is quiet
        return self

    def say(self, text: str) -> None:
        """What is done next, for the reader."""
        assert self._tracer is not None, "the curtain is up"
        self._tracer.say(text)

    def end(self) -> None:
        """The curtain falls, and every guarantee is checked once all is quiet."""
        assert self._tracer is not None, "the curtain is up"
        self._tracer.flush()
        told = len(self.lines)
        self.pass_ms(500)
        always = [*checkers.ALWAYS, *CHANNELS, *BARRIERS]
        checkers.check(self.simulation.lives, [*always, *checkers.QUIET, *CHANNELS_QUIET])
        del self.lines[told:]

    # ------------------------------------------------------------------------------- the time

    def pass_ms(self, duration_ms: float) -> None:
        """Let time pass."""
        self.simulation.run_for(int(duration_ms * MS))

    def agree(self, *nodes: int) -> int:
        """Until exactly these are in one view and act in it; returns how long it took."""
        return self.simulation.run_until(lambda: self.simulation.agreed_on(*nodes), WITHIN_NS)

    def until(self, condition: Callable[[], object]) -> int:
        """Until something holds; returns how long it took."""
        return self.simulation.run_until(lambda: bool(condition()), WITHIN_NS)

    # ------------------------------------------------------------------- what is done to nodes

    def start(self, *nodes: int) -> None:
        """Begin processes."""
        for node in nodes:
            self.say(f"node {node} is started")
            self.nodes[node].start()

    def kill(self, *nodes: int) -> None:
        """End processes; their kernels close the lifelines."""
        for node in nodes:
            self.say(f"the process of {node} is killed")
            self.nodes[node].kill()

    def vanish(self, node: int) -> None:
        """A host without power: nobody closes anything."""
        self.say(f"host {node} loses power")
        self.simulation.isolate(node)
        self.nodes[node].kill()

    def dies_before(self, victim: int, kind: type[wire.Control], to: int) -> None:
        """The process of a node dies when it is about to send this to that node."""
        cluster = codec.cluster_id(self.simulation.config.name)

        def tap(node: int, frame: bytes) -> None:
            if node != victim or not isinstance(control_of(frame, cluster), kind):
                return
            header = codec.decode_frame(frame, cluster)
            assert not isinstance(header, codec.FrameError), "it was just made"
            if header.addressee == to:
                self.network.tap = None
                word = kind.__name__.upper()
                self.say(f"the process of {victim} dies before it sends {word} to {to}")
                raise ProcessEnded

        self.network.tap = tap

    def leave(self, node: int) -> None:
        """A node is asked to leave within a second."""
        self.say(f"{node} is asked to leave")
        now_ns = self.nodes[node].clock()
        self.nodes[node].endpoint.leave(now_ns + 1000 * MS, now_ns)
        self.nodes[node].wake_soon()

    def multicast(self, node: int) -> bytes:
        """One message of a node to everybody, on the fifo lane."""
        self._count += 1
        payload = b"message %d" % self._count
        self.say(f"{node} multicasts {payload.decode()}")
        assert self.nodes[node].send(payload), "there was no room"
        return payload

    def open(self, node: int, name: str) -> None:
        """The application of a node opens an ordered channel."""
        self.say(f"{node} opens {name!r}")
        self.channels.open(self.nodes[node], name)

    def publish(self, node: int, name: str, *, safe: bool = False) -> None:
        """One entry of a node on an ordered channel."""
        self._count += 1
        payload = b"message %d" % self._count
        if self._tracer is not None:
            self.say(f"{node} publishes {payload.decode()}{', safe' if safe else ''}")
        self.channels.publish_on(self.nodes[node], name, payload, safe=safe)

    def has_read(self, node: int, name: str) -> list[bytes]:
        """The entries of a channel that the application of a node has read."""
        read = [item for item in self.nodes[node].told(Read) if item.channel == name]
        return [message for item in read for message in item.messages]

    def wait(self, node: int, name: str, timeout_ms: int | None = None) -> None:
        """A node arrives at a barrier of all members."""
        arrive(self.nodes[node], name, None if timeout_ms is None else timeout_ms * MS)

    def let_them_come_back(self) -> None:
        """Who is evicted, or has lost its record, begins anew (`rejoin` and `readmit`)."""
        self.simulation.after_turn.append(self._come_back)

    def _come_back(self, node: SimulatedNode) -> None:
        life, over = node.life, node.life.over
        if over is None or life.ended_ns is not None:
            return
        lost = over.seen if isinstance(over, RecordLost) else 0

        def begin() -> None:
            if node.life is life and node.running:
                self.say(f"{node.id} begins anew{' without its record' if lost else ''}")
                node.begin_anew(at_least=lost + 1, keep_record=not lost)

        self.network.after(1, begin)

    # -------------------------------------------------------------------------- what has come

    def views(self, node: int) -> list[tuple[int, ...]]:
        """Members of each view that the running process of a node has installed."""
        return [view.members for view in self.nodes[node].views()]

    def view(self, node: int) -> View:
        """The view in which a node is."""
        view = self.nodes[node].view
        assert view is not None, "it is in one"
        return view

    def left(self, node: int) -> dict[int, str]:
        """Who is not in the last view of a node any more, and why."""
        return dict(self.nodes[node].told(ViewInstalled)[-1].left)

    def delivered(self, node: int) -> list[bytes]:
        """Messages of the fifo and bulk lanes, in order."""
        return [p for item in self.nodes[node].told(Delivered) for p in item.payloads]

    def verdicts(self, node: int) -> list[str]:
        """What the waits of a node have come to."""
        return [outcome.verdict for outcome in self.nodes[node].told(Outcome)]

    def of(self, kind: type[_Item], *senders: int) -> list[_Item]:
        """Control messages of a kind that were sent since the curtain rose, by these or by all."""
        return [
            message
            for source, message in self.sent
            if isinstance(message, kind) and (not senders or source in senders)
        ]

    def when(self, words: str) -> list[float]:
        """When lines with these words were written, in milliseconds."""
        assert self._tracer is not None, "the curtain is up"
        self._tracer.flush()
        return [float(line.split()[0]) for line in self.lines if words in line]

    def evicted(self, node: int) -> list[Evicted]:
        """Of any incarnation of a node."""
        lives = (life for life in self.simulation.lives if life.member.node == node)
        return [item for life in lives for _, item in life.history if isinstance(item, Evicted)]


def control_of(frame: bytes, cluster: int) -> wire.Control | None:
    """The control message in a frame, if it is one."""
    header = codec.decode_frame(frame, cluster)
    if isinstance(header, codec.FrameError) or header.kind != wire.Kind.CONTROL:
        return None
    return wire.decode_control(frame[header.body_offset :])


# ------------------------------------------------------------------------------------- scenes

Play = Callable[[Stage], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A short story: its docstring is what the reader is told, its asserts are its point."""

    number: int
    name: str
    nodes: int
    sections: str
    play: Play

    @property
    def file(self) -> str:
        """The name of the text beside it."""
        return f"{self.number:02}_{self.name}.txt"

    def text(self) -> str:
        """What happens, now."""
        stage = Stage(self.nodes)
        self.play(stage)
        stage.end()
        title = (
            f"# {self.number}  {self.name.replace('_', ' ')}: docs/protocol.md, {self.sections}\n"
        )
        told = textwrap.wrap(inspect.cleandoc(self.play.__doc__ or "").replace("\n", " "), 96)
        head = [title, "#\n", *(f"# {line}\n" for line in told), "#\n", LEGEND, "\n"]
        return "".join([*head, *(f"{line}\n" for line in stage.lines)])


class Playbill:
    """The scenes of some files, in their order."""

    def __init__(self) -> None:
        self.scenes: list[Scene] = []

    def scene(self, sections: str, *, nodes: int = 3) -> Callable[[Play], Play]:
        """The function that follows is the next scene."""

        def add(play: Play) -> Play:
            number = len(self.scenes) + 1
            name = play.__name__
            self.scenes.append(
                Scene(number=number, name=name, nodes=nodes, sections=sections, play=play)
            )
            return play

        return add
