"""`phalanx demo`: the main job on hosts and rails of its own, while cables are cut and one dies.

One process a host multicasts a numbered stream, checks everybody's, and meets the others at a
barrier ten times a second. Meanwhile a rail is dropped silently and restored, a link is taken
down, and a process is killed and started again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console

from phalanx.transport.errors import PhalanxError, trouble
from phalanx.transport.testing.guarantees import Finding, judge
from phalanx.transport.testing.history_files import end_history, load
from phalanx.transport.testing.lab import capability, ensure_privileges

from ..transport.config import MULTICAST
from .check_command import breaches
from .demo_book import Process
from .demo_crew import Crew, DemoFailed
from .demo_leftovers import own_folder, remove_leftovers
from .demo_live import REFRESH_S, Lines, LiveTable, Show
from .demo_plot import PlotUnavailable, check_path, draw, make_figure
from .demo_result import Findings
from .demo_script import Act, Mark, Plan, make_plan
from .demo_signals import Interrupted, ignore_signals, stoppable
from .demo_stage import LabStage, LoopbackStage, Stage, check_driver

JOIN_TIMEOUT_S = 30.0
COME_BACK_TIMEOUT_S = 15.0
QUIET_AHEAD_NS = 300_000_000
"""How long before it is to be quiet everybody is told, so that all stop at the same time."""
COMPLETE_TIMEOUT_S = 8.0
LEAVE_TIMEOUT_S = 15.0
SPARE_S = 60.0
"""The whole demo may take this much longer than its traffic and its time-outs."""
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
_REPORT_TIMEOUT_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asks for."""

    nodes: int = 3
    rails: int = 2
    seconds: float = 15.0
    rate: float = 1000.0
    driver: str = "auto"
    multicast: bool = False
    """What goes to several goes once, and SCTP is blocked for a while."""
    json: bool = False
    """Only the closing line on standard output."""
    output: Path | None = Path("demo.png")
    """The picture; None for none."""
    keep: Path | None = None
    """Where histories are left; None for nowhere."""

    @property
    def traffic(self) -> dict[str, bool]:
        """The section of the cluster file."""
        return {"multicast": True, "fallback": True} if self.multicast else {}


def run(options: Options) -> int:
    """Play the demo; returns the exit status.

    It is 0 only if nothing was lost, duplicated or reordered among members that stayed, and 2
    if the options ask for what this machine cannot do.
    """
    try:
        check_driver(options.driver)
        if options.output is not None:
            check_path(options.output)
    except PhalanxError as error:
        print(f"phalanx demo: {error}", file=sys.stderr)
        return EXIT_USAGE
    kind = capability()
    in_lab = not kind.startswith("none")
    if in_lab:
        ensure_privileges()
    progress = sys.stderr if options.json else sys.stdout
    stage: Stage
    if in_lab:
        stage = LabStage(options.nodes, options.rails)
    else:
        print(f"no hosts and rails here ({kind.removeprefix('none: ')});", file=progress)
        print("all nodes run on the loopback interface, over one rail", file=progress)
        stage = LoopbackStage(options.nodes)
    try:
        for words in remove_leftovers(labs=in_lab):
            print(words, file=progress)
        with stoppable(), own_folder() as folder:
            config = folder / "cluster.toml"
            with stage:
                stage.configure(config, options.driver, options.traffic)
                histories = options.keep or folder / "histories"
                with trouble(f"{histories} cannot be made"):
                    histories.mkdir(parents=True, exist_ok=True)
                demo = Demo(options, stage, config, histories)
                with _show(options, stage) as show:
                    asyncio.run(demo.play(show))
                ignore_signals()  # what was built is removed to the end
            demo.judge()
            # Namespaces and processes are gone already; what is left to do is to tell.
            return demo.tell()
    except Interrupted:
        print("interrupted; hosts, rails and processes are removed", file=sys.stderr)
        return EXIT_INTERRUPTED
    except PhalanxError as error:
        print(f"phalanx demo: {error}", file=sys.stderr)
        return 1


def _show(options: Options, stage: Stage) -> Show:
    if options.json or not sys.stdout.isatty():
        return Lines(sys.stderr if options.json else sys.stdout)
    title = f"{len(stage.names)} hosts, rails {', '.join(stage.rails)}"
    return LiveTable(Console(), stage.names, title)


class Demo:
    """One performance."""

    def __init__(self, options: Options, stage: Stage, config: Path, histories: Path) -> None:
        self._options = options
        self._stage = stage
        self._histories = histories
        self._crew = Crew(stage, config, histories, options.rate)
        self._plan: Plan = make_plan(
            seconds=options.seconds,
            nodes=len(stage.names),
            rails=len(stage.rails),
            breakable=stage.breakable,
            fallback=options.multicast and options.driver != MULTICAST,
        )
        self._marks: list[Mark] = []
        self._broken: dict[Act, tuple[str, str]] = {}
        self._start_ns = self._go_ns = self._end_ns = 0
        self._living: list[Process] = []
        self._incomplete = False
        self._findings: list[Finding] = []

    # -------------------------------------------------------------------------------- playing

    async def play(self, show: Show) -> None:
        """From the first process to the last one's leaving.

        Raises:
            DemoFailed: it did not come to its end.
        """
        refreshing = asyncio.create_task(self._refresh(show))
        allowed = self._options.seconds + SPARE_S + COME_BACK_TIMEOUT_S + JOIN_TIMEOUT_S
        try:
            async with asyncio.timeout(allowed):
                await self._play(show)
                refreshing.cancel()  # the table keeps showing everybody at the end
                show.refresh(self._crew)
                await self._crew.dismiss(LEAVE_TIMEOUT_S)
        except TimeoutError:
            raise DemoFailed(f"the demo has not ended within {allowed:g} s") from None
        finally:
            refreshing.cancel()
            self._crew.close()

    async def _refresh(self, show: Show) -> None:
        while True:
            show.refresh(self._crew)
            await asyncio.sleep(REFRESH_S)

    async def _play(self, show: Show) -> None:
        for words in self._plan.left_out:
            show.say(words)
        await self._gather(show)
        crew = self._crew
        crew.tell_all("go")
        self._go_ns = time.monotonic_ns()
        show.say(f"everybody multicasts {self._options.rate:g} messages a second")
        for at, act in self._plan.acts:
            await self._sleep_until(at)
            await self._perform(act, show)
        await self._sleep_until(self._options.seconds)
        names = self._stage.names
        if any(mark.act is Act.RESTART for mark in self._marks) and not await crew.until(
            lambda: self._all_in_view(len(names)), COME_BACK_TIMEOUT_S
        ):
            show.say(f"{names[-1]} did not become a member again in time")
        self._end_ns = time.monotonic_ns() + QUIET_AHEAD_NS
        crew.tell_all(f"quiet {self._end_ns}")
        self._incomplete = not await crew.until(
            lambda: crew.book.complete(crew.living), COMPLETE_TIMEOUT_S
        )
        self._living = crew.living
        show.say("the traffic has ended; everybody leaves")

    async def _gather(self, show: Show) -> None:
        self._start_ns = time.monotonic_ns()
        names = self._stage.names
        for name in names:
            await self._crew.start(name)
        show.say(f"started {', '.join(names)}; they look for each other")
        if not await self._crew.until(lambda: self._all_in_view(len(names)), JOIN_TIMEOUT_S):
            raise DemoFailed(f"no view of all nodes within {JOIN_TIMEOUT_S:g} s")
        elapsed = (time.monotonic_ns() - self._start_ns) / 1e9
        show.say(f"a view of all {len(names)}, {elapsed:.1f} s after the start")

    def _all_in_view(self, count: int) -> bool:
        views = [process.view for process in self._crew.living]
        return len(views) == count and all(
            view is not None and len(view.members) == count for view in views
        )

    async def _sleep_until(self, at_s: float) -> None:
        """Until that time after the traffic has begun, unless a process ends before."""
        left = at_s - (time.monotonic_ns() - self._go_ns) / 1e9
        await self._crew.until(lambda: False, max(0.0, left))

    async def _perform(self, act: Act, show: Show) -> None:
        names = self._stage.names
        match act:
            case Act.DROP:
                # Rail a carries the traffic of a cluster that has had no fault.
                await self._break(act, self._stage.rails[0], names[1 % len(names)], show)
            case Act.LINK_DOWN:
                name = names[2 % len(names)]
                await self._break(act, self._rail_in_use(name), name, show)
            case Act.HEAL_DROP:
                await self._heal(act, Act.DROP, show)
            case Act.HEAL_LINK:
                await self._heal(act, Act.LINK_DOWN, show)
            case Act.BLOCK:
                self._mark(act, "SCTP blocked between all hosts", show)
                await asyncio.to_thread(self._stage.block, names)
            case Act.UNBLOCK:
                self._mark(act, "SCTP let through again", show)
                await asyncio.to_thread(self._stage.block, ())
            case Act.KILL:
                await self._kill(names[-1], show)
            case Act.RESTART:
                self._mark(act, f"{names[-1]} started again", show)
                hand = await self._crew.start(names[-1])
                hand.tell("go")

    async def _kill(self, name: str, show: Show) -> None:
        hand = self._crew.hands[name]
        asked_ns = time.monotonic_ns()
        hand.tell("report")  # what it has not told by now it will never tell

        def has_reported() -> bool:
            latest = hand.process.latest
            return latest is not None and latest.at_ns > asked_ns

        await self._crew.until(has_reported, _REPORT_TIMEOUT_S)
        hand.expected_to_end = True
        self._mark(Act.KILL, f"{name} killed (SIGKILL)", show)
        os.kill(hand.child.pid, signal.SIGKILL)
        await asyncio.to_thread(hand.child.wait, 5.0)
        if hand.history.exists():
            end_history(hand.history, time.monotonic_ns())

    def _mark(self, act: Act, words: str, show: Show) -> None:
        self._marks.append(Mark(act=act, at_ns=time.monotonic_ns(), words=words))
        show.say(words)

    async def _break(self, act: Act, rail: str, name: str, show: Show) -> None:
        self._broken[act] = (rail, name)
        if act is Act.DROP:
            self._mark(act, f"rail {rail} of {name} silently dropped", show)
            await asyncio.to_thread(self._stage.drop, rail, name)
        else:
            self._mark(act, f"link of {name} to rail {rail} down", show)
            await asyncio.to_thread(self._stage.cut, rail, name)

    async def _heal(self, act: Act, fault: Act, show: Show) -> None:
        rail, name = self._broken[fault]
        self._mark(act, f"rail {rail} of {name} restored", show)
        await asyncio.to_thread(self._stage.heal, rail, name)

    def _rail_in_use(self, name: str) -> str:
        """The rail over which this node reaches most of its peers now."""
        paths = self._crew.hands[name].process.paths
        used = Counter(path.rail for path in paths if path.primary)
        return used.most_common(1)[0][0] if used else self._stage.rails[0]

    # -------------------------------------------------------------------------------- telling

    def judge(self) -> None:
        """Have the checkers of all guarantees read the histories.

        Raises:
            HistoryUnusable: they cannot.
        """
        self._findings = judge(load([self._histories]))

    def tell(self) -> int:
        """The picture, the summary and the closing line; returns the exit status."""
        findings = Findings(
            book=self._crew.book,
            marks=self._marks,
            names=self._stage.names,
            living=self._living,
            start_ns=self._start_ns,
            go_ns=self._go_ns,
            end_ns=self._end_ns,
        )
        lines = findings.words()
        if self._incomplete:
            lines.append(f"Not everything sent had arrived {COMPLETE_TIMEOUT_S:g} s later.")
        lines.append(_guarantees(self._findings))
        lines += breaches(self._findings)
        if self._options.keep is not None:
            lines.append(f"Histories: phalanx check {self._options.keep}")
        lines += [f"Left out: {words}." for words in self._plan.left_out]
        if self._options.output is not None:
            lines.append(self._picture(self._options.output, findings))
        progress = sys.stderr if self._options.json else sys.stdout
        print("\n" + "\n".join(lines) + "\n", file=progress, flush=True)
        print(msgspec.json.encode(findings.result()).decode(), flush=True)
        broken = any(finding.breaches for finding in self._findings)
        return 0 if findings.good and not self._incomplete and not broken else 1

    def _picture(self, path: Path, findings: Findings) -> str:
        nodes, rails = len(self._stage.names), len(self._stage.rails)
        try:
            figure = make_figure(
                book=self._crew.book,
                marks=self._marks,
                names=self._stage.names,
                start_ns=self._start_ns,
                go_ns=self._go_ns,
                end_ns=self._end_ns,
                title=findings.title(nodes, rails, self._options.rate),
                captions=findings.captions(),
            )
            draw(path, figure)
        except PlotUnavailable as error:
            return f"{error}."
        return f"Picture: {path}"


def _guarantees(findings: list[Finding]) -> str:
    """What became of the guarantees, in a sentence."""
    by_verdict: dict[str, list[str]] = {}
    for finding in findings:
        by_verdict.setdefault(finding.verdict, []).append(str(finding.guarantee.number))
    parts = [f"{verdict}: {', '.join(numbers)}" for verdict, numbers in by_verdict.items()]
    return f"Guarantees {'; '.join(parts)}."
