"""Clusters of worker processes on the hosts of a lab, and how tests wait for what they do."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from phalanx.transport.testing.evidence import Evidence, History
from phalanx.transport.testing.guarantees import complain, judge
from phalanx.transport.testing.history import SUFFIX
from phalanx.transport.testing.history_files import end_history, load
from phalanx.transport.testing.lab import Lab, freeze, thaw

from .reports import (
    Answer,
    Burst,
    Command,
    Halt,
    Line,
    Look,
    Order,
    PathWanted,
    Reach,
    Seen,
    Still,
    Stream,
    TurnPage,
)

T = TypeVar("T")

MS = 1_000_000
S = 1_000_000_000
DEADLINE_S = 15.0
"""How long a test waits for an event; limits are judged by the event's own time."""

_TESTS = Path(__file__).parent.parent
_encoder = msgspec.json.Encoder()
_lines: msgspec.json.Decoder[Seen | Answer] = msgspec.json.Decoder(Line)


def now_ns() -> int:
    """The clock of all reports."""
    return time.monotonic_ns()


class Node:
    """One worker process; a thread reads what it says."""

    def __init__(
        self,
        fleet: Fleet,
        host: str,
        process: subprocess.Popen[bytes],
        log: Path,
        history: Path,
    ) -> None:
        self.host = host
        self.history = history
        """What it writes now."""
        self.id = fleet.lab.node_id(host)
        self.process = process
        self.seen: list[Seen] = []
        self.stopped = False
        self._fleet = fleet
        self._log = log
        self._said = fleet.said
        self._answers: dict[int, Answer] = {}
        self._number = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None, "it was started with a pipe"
        with self.process.stdout as lines:
            for text in lines:
                line = _lines.decode(text)
                with self._said:
                    if isinstance(line, Answer):
                        self._answers[line.number] = line
                    else:
                        self.seen.append(line)
                    self._said.notify_all()

    # ------------------------------------------------------------------------------ commands

    def begin(self, order: Order) -> int:
        """Give an order; `result` waits for its answer."""
        assert self.process.stdin is not None, "it was started with a pipe"
        if not isinstance(order, Look):
            self._fleet.asked()
        self._number += 1
        command = _encoder.encode(Command(number=self._number, order=order))
        self.process.stdin.write(command + b"\n")
        self.process.stdin.flush()
        return self._number

    def result(self, number: int, timeout: float = DEADLINE_S) -> Answer:
        """The answer to a command, be it an error."""
        return self._fleet.wait(
            lambda: self._answers.get(number), f"answer {number} of {self.host}", timeout
        )

    def answered(self, number: int) -> bool:
        """Whether a command has its answer."""
        return number in self._answers

    def ask(self, order: Order, timeout: float = DEADLINE_S) -> Answer:
        """The answer to an order that must succeed."""
        answer = self.result(self.begin(order), timeout)
        assert not answer.error, f"{self.host}: {order}: {answer.error}: {answer.text}"
        return answer

    # -------------------------------------------------------------------------------- events

    def find(self, kind: str, after_ns: int = 0, **wanted: object) -> Seen | None:
        """The first such event after a point of time, if there is one."""
        for seen in list(self.seen):
            if seen.kind == kind and seen.at_ns > after_ns:
                values = {name: getattr(seen, name) for name in wanted}
                if values == wanted:
                    return seen
        return None

    def await_event(
        self, kind: str, after_ns: int = 0, timeout: float = DEADLINE_S, **wanted: object
    ) -> Seen:
        """The first such event after a point of time."""
        what = f"{kind} {wanted or ''} at {self.host}"
        return self._fleet.wait(lambda: self.find(kind, after_ns, **wanted), what, timeout)

    def views(self, after_ns: int = 0) -> list[Seen]:
        """All views after a point of time."""
        seen = list(self.seen)
        return [s for s in seen if s.kind == "ViewInstalled" and s.at_ns > after_ns]

    def view(self) -> Seen | None:
        """The latest view."""
        views = self.views()
        return views[-1] if views else None

    def await_end(self, timeout: float = DEADLINE_S) -> int:
        """The exit status, once all that the process said is read."""
        status = self.process.wait(timeout)
        self._reader.join(timeout)
        assert self.process.stdin is not None, "it was started with a pipe"
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        return status

    # ------------------------------------------------------------------------------- signals

    @property
    def running(self) -> bool:
        """Whether the process is there, stopped or not."""
        return self.process.poll() is None

    def kill(self) -> int:
        """SIGKILL; returns the time just before it."""
        at_ns = now_ns()
        os.kill(self.process.pid, signal.SIGKILL)
        self.await_end()
        self.ended()
        return at_ns

    def ended(self) -> None:
        """Note in its history that it was killed."""
        if self.history.exists():
            end_history(self.history, now_ns())

    def stop(self) -> int:
        """SIGSTOP; returns the time just before it."""
        at_ns = now_ns()
        freeze(self.process)
        self.stopped = True
        return at_ns

    def go_on(self) -> int:
        """SIGCONT; returns the time just before it."""
        at_ns = now_ns()
        thaw(self.process)
        self.stopped = False
        return at_ns

    def story(self) -> str:
        """The last events and what it wrote on standard error, for failures."""
        lines = [f"--- {self.host}, exit status {self.process.poll()}"]
        lines += [f"{seen.at_ns / S:.4f} {_short(seen)}" for seen in list(self.seen)[-25:]]
        if self.running and not self.stopped:
            with contextlib.suppress(AssertionError, OSError):
                look = self._await_answer(self.begin(Look()), timeout=1.0)
                lines.append(f"    received {look.received}\n    counters {look.stats}")
        text = self._log.read_text(errors="replace")
        return "\n".join([*lines, text[-3000:]])

    def _await_answer(self, number: int, timeout: float) -> Answer:
        with self._said:
            self._said.wait_for(lambda: number in self._answers, timeout)
            assert number in self._answers, "no answer"
            return self._answers[number]


def _short(seen: Seen) -> str:
    fields = msgspec.structs.asdict(seen)
    return " ".join(
        f"{name}={value}" for name, value in fields.items() if value and name != "at_ns"
    )


class Fleet:
    """The nodes of one cluster on a lab; at most one process a host at a time."""

    def __init__(self, lab: Lab, folder: Path, hosts: int = 3, **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.lab = lab
        self.folder = folder
        self.config = lab.cluster_toml(folder / "cluster.toml", hosts=hosts, **settings)
        self.hosts = lab.hosts[:hosts]
        self.nodes: dict[str, Node] = {}
        self.lane = "fifo"
        """On which everybody multicasts; changed only when all has arrived."""
        self.said = threading.Condition()
        self._logs = 0
        self._page = 0
        """Histories are judged page by page: each test begins one."""
        self._read: tuple[int, Evidence] | None = None
        """When the histories of this page were read last, and what was in them."""
        self._judged = False
        """All that was asked for on this page is judged."""

    def __getitem__(self, host: str) -> Node:
        return self.nodes[host]

    @property
    def ids(self) -> tuple[int, ...]:
        """All node ids."""
        return tuple(self.lab.node_id(host) for host in self.hosts)

    def wait(self, look: Callable[[], T | None], what: str, timeout: float = DEADLINE_S) -> T:
        """What `look` finds after something was said; fails with everybody's story."""
        deadline = time.monotonic() + timeout
        with self.said:
            while (found := look()) is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self.said.wait(left)
            else:
                return found
        raise AssertionError(f"not within {timeout:g} s: {what}\n{self.story()}")

    def story(self) -> str:
        """What everybody has said lately, and their counters, for failures."""
        return "\n".join(node.story() for node in self.nodes.values())

    # ---------------------------------------------------------------------------- processes

    def spawn(
        self, host: str, timeout: float = 30.0, config: Path | None = None, node: str = ""
    ) -> Node:
        """Start a process that joins; it is not (yet) the host's node of this fleet.

        `node` is who it is, by default the one with the host's name.
        """
        self._logs += 1
        log = self.folder / f"{host}-{self._logs}.log"
        argv = [sys.executable, "-m", "netns.worker", str(config or self.config), node or host]
        history = self._history(host)
        env = {**os.environ, "PYTHONPATH": str(_TESTS)}
        with log.open("wb") as stderr:
            process = self.lab.spawn(
                host,
                [*argv, str(timeout), str(history)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=env,
            )
        return Node(self, node or host, process, log, history)

    @property
    def page(self) -> Path:
        """The folder of the histories that are being written."""
        return self.folder / f"page-{self._page}"

    def _history(self, host: str) -> Path:
        self.page.mkdir(exist_ok=True)
        self._logs += 1
        return self.page / f"{host}-{self._logs}{SUFFIX}"

    def turn_page(self) -> None:
        """Everybody is in one view and sends nothing: histories go on in a new folder."""
        self.exchange(self.hosts)
        self._page += 1
        self._read = None
        self._judged = True
        for host in self.hosts:
            node = self.nodes[host]
            path = self._history(host)
            node.ask(TurnPage(path=str(path)))
            node.history = path

    def evidence(self) -> Evidence:
        """The histories of this page so far."""
        at_ns = now_ns()
        self._read = at_ns, load([self.page], until_ns=at_ns)
        return self._read[1]

    def check(self, *, quiet: bool = False) -> None:
        """Every guarantee held so far; `quiet` if all that was sent has arrived."""
        if self._judged and not quiet:
            return
        found = complain(judge(self.evidence(), quiet=quiet))
        assert not found, f"{found}\nhistories: {self.page}"
        self._judged = True

    def asked(self) -> None:
        """Something is done that is to be judged."""
        self._judged = False

    def start(self, host: str) -> Node:
        """Start the host's node, without waiting for anything."""
        before = self.nodes.get(host)
        if before is not None:
            before.await_end()
        node = self.nodes[host] = self.spawn(host)
        return node

    def end(self) -> None:
        """Kill whatever still runs."""
        for node in self.nodes.values():
            if node.running:
                node.kill()
            else:
                node.await_end()

    def make_whole(self, timeout: float = DEADLINE_S) -> None:
        """Every host runs, every node is in one view, and rail a is everybody's primary."""
        self.lab.heal_all()
        for host in self.hosts:
            node = self.nodes.get(host)
            if node is None or not node.running:
                self.start(host)
            elif node.stopped:
                node.go_on()
        self.await_whole(timeout=timeout)
        self.await_paths(timeout=timeout)
        for node in self.nodes.values():
            node.ask(Halt())
            node.ask(Look())
        self.turn_page()

    # -------------------------------------------------------------------------------- waiting

    def await_view(
        self,
        members: Collection[int],
        at: Iterable[str],
        after_ns: int = 0,
        timeout: float = DEADLINE_S,
    ) -> dict[str, Seen]:
        """The first view of these members after a point of time, at each of these hosts."""
        wanted = sorted(members)

        def look(host: str) -> Seen | None:
            views = self.nodes[host].views(after_ns)
            return next((seen for seen in views if sorted(seen.members) == wanted), None)

        return {
            host: self.wait(lambda host=host: look(host), f"view {wanted} at {host}", timeout)
            for host in at
        }

    def await_whole(self, timeout: float = DEADLINE_S) -> Seen:
        """Every node's latest view is the same and has all nodes in it."""

        def look() -> Seen | None:
            views = [self.nodes[host].view() for host in self.hosts]
            first = views[0]
            if first is None or sorted(first.members) != sorted(self.ids):
                return None
            same = all(view and view.view == first.view for view in views)
            return first if same else None

        return self.wait(look, "one view of all", timeout)

    def await_paths(self, primary: str = "a", timeout: float = DEADLINE_S) -> None:
        """Every path is up, and this rail is everybody's primary."""
        asked: list[tuple[Node, int]] = []
        for node in self.nodes.values():
            for peer in self.ids:
                if peer != node.id:
                    for rail in self.lab.rails:
                        wanted = PathWanted(peer=peer, rail=rail, primary=rail == primary)
                        asked.append((node, node.begin(wanted)))
        for node, number in asked:
            node.result(number, timeout)

    # -------------------------------------------------------------------------------- traffic

    def stream(self, rate: float, hosts: Iterable[str] | None = None, **order: Any) -> None:
        """Let each host multicast at this rate."""
        for host in hosts or self.hosts:
            self.nodes[host].ask(Stream(rate=rate, lane=self.lane, **order))

    def flow(
        self,
        messages: int,
        hosts: Collection[str] | None = None,
        senders: Collection[str] | None = None,
    ) -> None:
        """Return when each of these hosts has received so many more messages of each sender.

        The senders, by default the hosts themselves, must be multicasting at the time.
        """
        chosen = self.hosts if hosts is None else hosts
        sent = {
            self.nodes[host].id: self.nodes[host].ask(Look()).sent
            for host in (chosen if senders is None else senders)
        }
        self._reach({sender: number + messages for sender, number in sent.items()}, chosen)

    def _reach(self, numbers: Mapping[int, int], hosts: Collection[str]) -> None:
        """Return when all of these hosts have received these numbers of these senders."""
        asked = [
            (self.nodes[host], self.nodes[host].begin(Reach(sender=sender, number=number)))
            for host in hosts
            for sender, number in numbers.items()
        ]
        for node, number in asked:
            node.result(number)

    def settle(self, hosts: Collection[str] | None = None) -> dict[str, Answer]:
        """End the streams, wait until all has arrived, judge the page; what each host reports."""
        chosen = self.hosts if hosts is None else hosts
        for host in chosen:
            self.nodes[host].ask(Halt())
        self.exchange(chosen)
        self.check(quiet=set(chosen) == set(self.hosts))
        return {host: self.nodes[host].ask(Look()) for host in chosen}

    def exchange(self, hosts: Collection[str]) -> None:
        """One more message of each; return when all that these hosts have sent has arrived.

        Who has come since a stream ended has received nothing of it.
        """
        burst = Burst(count=1, lane=self.lane, held=True)
        asked = {host: self.nodes[host].begin(burst) for host in hosts}
        answers = {self.nodes[host].id: self.nodes[host].result(n) for host, n in asked.items()}
        for answer in answers.values():
            assert not answer.error, f"{answer.error}: {answer.text}\n{self.story()}"
        self._reach({node: answer.sent for node, answer in answers.items()}, hosts)
        for host in hosts:
            self.nodes[host].ask(Still())

    def gaps_ms(
        self, pairs: Iterable[tuple[str, str]], from_ns: int, to_ns: int, *, directed: bool = False
    ) -> dict[tuple[str, str], float]:
        """The longest gap of each (sender, receiver) in a span of time, in milliseconds.

        Best asked for once the traffic has ended: reading histories takes its time.
        """
        members = self.members(to_ns)
        return {
            (sender, receiver): members[receiver].longest_gap_ns(
                self.nodes[sender].id, from_ns, to_ns, directed=directed
            )
            / MS
            for sender, receiver in pairs
        }

    def members(self, until_ns: int | None = None) -> dict[str, History]:
        """The history of the last incarnation of each host on this page, up to some time."""
        found: dict[str, History] = {}
        known = until_ns is not None and self._read is not None and self._read[0] >= until_ns
        evidence = self._read[1] if known and self._read is not None else self.evidence()
        for history in evidence.histories:
            host = self.hosts[self.ids.index(history.member.node)]
            if host not in found or found[host].member < history.member:
                found[host] = history
        return found

    def pairs(self, hosts: Collection[str] | None = None) -> list[tuple[str, str]]:
        """Every (sender, receiver)."""
        chosen = self.hosts if hosts is None else hosts
        return [(a, b) for a in chosen for b in chosen if a != b]
