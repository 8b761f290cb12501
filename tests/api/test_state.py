"""A newcomer's application gets the state of the others, and reads on from there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phalanx.barrier import Barriers
from phalanx.transport import (
    Cluster,
    ClusterConfig,
    Event,
    Evicted,
    EvictedError,
    Message,
    PhalanxError,
    Rejoined,
    StateFailed,
    StateOverdue,
    UsageError,
    ViewInstalled,
)
from phalanx.transport.config import MS, Limits
from phalanx.transport.joining import Joining
from phalanx.transport.testing.memory import MemoryNetwork, join_all, memory_config

GUARD_S = 20.0
LOOK_S = 0.005


class Book:
    """An application: it writes down every multicast that it reads."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.calls: list[str] = []
        self.events: list[Event] = []
        self.reader: asyncio.Task[None] | None = None

    def give(self) -> bytes:
        self.calls.append(f"give {len(self.lines)}")
        return json.dumps(self.lines).encode()

    def take(self, state: bytes) -> None:
        self.lines = json.loads(state)
        self.calls.append(f"take {len(self.lines)}")

    def see(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, ViewInstalled):
            self.calls.append(f"view {len(event.view.members)}")
        elif isinstance(event, Message) and not event.directed:
            self.lines.append(event.payload.decode())

    async def read(self, cluster: Cluster) -> None:
        async for event in cluster:
            self.see(event)

    def begin(self, cluster: Cluster) -> None:
        self.reader = asyncio.create_task(self.read(cluster))

    async def stop(self) -> None:
        """Whoever does not read any more is asked for nothing."""
        assert self.reader is not None
        self.reader.cancel()
        await asyncio.wait([self.reader])


class Scene:
    """Nodes with books over a network in memory; node 3 comes later."""

    def __init__(self, folder: Path, nodes: int = 3, **limits: int) -> None:
        self.network = MemoryNetwork()
        config = replace(memory_config(nodes), state_dir=str(folder))
        timing = replace(config.timing, state_timeout_ns=300 * MS)
        self.config: ClusterConfig = replace(config, limits=Limits(**limits), timing=timing)
        self.books = {node.id: Book() for node in config.nodes}
        self.clusters: dict[int, Cluster] = {}

    def join(self, node: int, **options: Any) -> Joining:
        book = self.books[node]
        hooks: dict[str, Any] = {"on_state_request": book.give, "on_state": book.take}
        hooks |= options
        return Cluster.join(self.config, node=node, drivers=self.network, **hooks)

    async def begin(self, *nodes: int, **options: Any) -> None:
        """These join, and read."""
        joined = await join_all({node: self.join(node, **options) for node in nodes})
        self.clusters.update(joined)
        for node in nodes:
            self.books[node].begin(joined[node])

    async def without_third(self, **options: Any) -> None:
        """A first view of all, which node 3 has left again."""
        await self.begin(1, 2, 3, **options)
        await self.clusters.pop(3).leave()
        self.books[3] = Book()
        await self.until(lambda: self.views(1)[-1:] == ["view 2"])

    def views(self, node: int) -> list[str]:
        return [call for call in self.books[node].calls if call.startswith("view")]

    async def write(self, node: int, *lines: str) -> None:
        for line in lines:
            await self.clusters[node].multicast(line.encode())

    @staticmethod
    async def until(condition: Callable[[], bool]) -> None:
        """Look until it is so; `play` ends a wait in vain.

        What is waited for is inside of nodes, which tell nobody: so it is looked at now and then.
        """
        while True:
            if condition():
                return
            await asyncio.sleep(LOOK_S)  # between two looks; no outcome depends on how long

    async def end(self) -> None:
        for cluster in self.clusters.values():
            await cluster.leave(timeout=0.2)


async def read_into(seen: list[Event], cluster: Cluster) -> None:
    """Read to the end of the stream."""
    async for event in cluster:
        seen.append(event)


def play(scene: Scene, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it, with a guard against hanging."""

    async def guarded() -> None:
        try:
            async with asyncio.timeout(GUARD_S):
                await body()
        finally:
            await scene.end()

    asyncio.run(guarded())


def test_a_newcomer_takes_the_state_as_of_its_view_and_reads_on(tmp_path: Path) -> None:
    """What is in the state is not read again, and what comes after it is not missing."""
    scene = Scene(tmp_path)

    async def body() -> None:
        await scene.without_third()
        await scene.write(1, "one", "two")
        await scene.begin(3)
        await scene.write(2, "three")
        newcomer, donor = scene.books[3], scene.books[1]
        await scene.until(lambda: len(newcomer.lines) == 3 and len(donor.lines) == 3)
        assert newcomer.lines == donor.lines
        assert newcomer.calls == ["take 2", "view 3"]
        assert donor.calls == ["view 3", "view 2", "give 2", "view 3"]
        assert not [call for call in scene.books[2].calls if call.startswith("give")]
        view = next(e for e in newcomer.events if isinstance(e, ViewInstalled))
        assert (view.donor, view.synced, view.view.continuing) == (1, True, (1, 2))

    play(scene, body)


def test_founders_take_no_state(tmp_path: Path) -> None:
    """At the first start nobody has any; all begin with the same."""
    scene = Scene(tmp_path)

    async def body() -> None:
        await scene.begin(1, 2, 3)
        await scene.until(lambda: all(book.calls for book in scene.books.values()))
        assert [book.calls for book in scene.books.values()] == [["view 3"]] * 3
        for book in scene.books.values():
            (view,) = [e for e in book.events if isinstance(e, ViewInstalled)]
            assert (view.donor, view.synced, view.started_over) == (0, True, False)

    play(scene, body)


def test_a_large_state_comes_in_parts(tmp_path: Path) -> None:
    """Bulk in flight is bounded, for the state of an application like for anything else."""
    scene = Scene(tmp_path, bulk_batch_bytes=1024, bulk_in_flight_bytes=4096)

    async def body() -> None:
        await scene.without_third()
        await scene.write(1, *("x" * 9_999 for _ in range(30)))
        await scene.begin(3)
        await scene.until(lambda: len(scene.books[3].lines) == 30)
        assert scene.books[3].lines == scene.books[1].lines
        assert scene.clusters[1].stats()["core"]["state_parts_sent"] > 290

    play(scene, body)


def test_a_reader_that_takes_what_is_ready_is_asked_when_it_has_worked_on_it(
    tmp_path: Path,
) -> None:
    """The state is what it made of the events before; those it has in its hand are not in it."""
    scene = Scene(tmp_path)

    async def body() -> None:
        await scene.without_third()
        await scene.books[1].stop()
        one, book = scene.clusters[1], scene.books[1]
        await scene.write(2, "before")
        await scene.until(lambda: one.stats()["queue"]["bytes"] > 0)
        before = one.stats()["queue"]["bytes"]
        scene.clusters[3] = await scene.join(3)
        await scene.until(lambda: len(one.view.members) == 3)
        await scene.write(2, "after")
        await scene.until(lambda: one.stats()["queue"]["bytes"] > before)
        book.calls.clear()
        first = one.take_ready()
        assert [e.payload for e in first if isinstance(e, Message)] == [b"before"]
        assert not book.calls
        for event in first:
            book.see(event)
        second = one.take_ready()
        assert book.calls == ["give 1"]
        assert isinstance(second[0], ViewInstalled)
        assert [e.payload for e in second if isinstance(e, Message)] == [b"after"]
        three = scene.clusters[3]
        found: list[Event] = []

        def both_found() -> bool:
            ready = three.take_ready()
            found.extend(e for e in ready if isinstance(e, Message | ViewInstalled))
            return len(found) == 2

        await scene.until(both_found)
        assert scene.books[3].lines == ["before"]
        assert [type(event).__name__ for event in found] == ["ViewInstalled", "Message"]

    play(scene, body)


def test_a_newcomer_whose_donor_does_not_read_is_told_so_and_gets_it_from_the_next(
    tmp_path: Path,
) -> None:
    """No wait is silent: it names the donor. When that one dies another gives, and what was held
    back is in that one's state; what was sent to the newcomer alone is not, and is not lost.
    """
    scene = Scene(tmp_path, nodes=4)

    async def body() -> None:
        await scene.begin(1, 2, 3, 4)
        await scene.clusters.pop(4).leave()
        scene.books[4] = Book()
        await scene.until(lambda: len(scene.clusters[2].view.members) == 3)
        await scene.books[1].stop()
        await scene.write(2, "one")
        await scene.begin(4)
        newcomer = scene.books[4]
        await scene.write(2, "two")
        await scene.clusters[2].send(4, b"to you alone")
        await scene.until(lambda: len(newcomer.events) > 1)
        overdue = newcomer.events[0]
        assert isinstance(overdue, StateOverdue)
        assert (overdue.donor, overdue.received_bytes, overdue.size_bytes) == (1, 0, None)
        assert {type(event) for event in newcomer.events} == {StateOverdue}
        assert not newcomer.lines
        scene.network.kill(1)
        await scene.until(lambda: newcomer.lines == ["one", "two"])
        await scene.write(3, "three")
        await scene.until(lambda: newcomer.lines == ["one", "two", "three"])
        assert newcomer.calls == ["view 4", "take 2", "view 3"]
        seen = [e for e in newcomer.events if isinstance(e, Message | ViewInstalled)]
        assert [type(event).__name__ for event in seen] == [
            "ViewInstalled",
            "Message",
            "ViewInstalled",
            "Message",
        ]
        without, alone, state = seen[:3]
        assert isinstance(without, ViewInstalled)
        assert isinstance(state, ViewInstalled)
        assert isinstance(alone, Message)
        assert (without.synced, without.donor) == (False, 1)
        assert alone.payload == b"to you alone"
        assert (state.synced, state.donor) == (True, 2)

    play(scene, body)


def test_a_donor_without_hooks_has_no_state_to_give(tmp_path: Path) -> None:
    """The newcomer does not wait for what never comes."""
    scene = Scene(tmp_path)

    async def body() -> None:
        await scene.without_third(on_state=None, on_state_request=None)
        await scene.begin(3)
        await scene.write(1, "one")
        await scene.until(lambda: scene.books[3].lines == ["one"])
        assert scene.books[3].calls == ["view 3"]

    play(scene, body)


def test_who_was_evicted_comes_back_with_the_state_of_the_others(tmp_path: Path) -> None:
    """It keeps what it had until it is given another's; what it did alone is not in that."""
    scene = Scene(tmp_path)

    async def body() -> None:
        await scene.begin(1, 2, 3, rejoin=True)
        await scene.write(3, "all")
        lonely = scene.books[3]
        await scene.until(lambda: lonely.lines == ["all"])
        for rail in "ab":
            scene.network.cut(3, rail)
        await scene.until(lambda: len(scene.clusters[1].view.members) == 2)
        await scene.write(1, "without you")
        for rail in "ab":
            scene.network.heal(3, rail)
        await scene.until(lambda: lonely.lines == ["all", "without you"])
        names = [type(event).__name__ for event in lonely.events]
        assert names.index("Evicted") < names.index("Rejoined")
        assert lonely.calls == ["view 3", "take 2", "view 3"]
        order = [e for e in lonely.events if isinstance(e, Evicted | Rejoined | ViewInstalled)]
        assert [type(e) for e in order] == [ViewInstalled, Evicted, Rejoined, ViewInstalled]

    play(scene, body)


def refuse() -> bytes:
    """A hook with a bug."""
    raise KeyError("no such account")


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        (refuse, "on_state_request raised KeyError"),
        (lambda: "text", "on_state_request returned str, not bytes"),
    ],
)
def test_a_donor_that_cannot_give_ends_and_the_next_one_gives(
    tmp_path: Path, hook: Callable[[], Any], words: str
) -> None:
    """A node whose state is in doubt must not go on, and must not hold up the newcomer."""
    scene = Scene(tmp_path, nodes=4)

    async def body() -> None:
        joins = {node: scene.join(node) for node in (2, 3, 4)}
        joins[1] = scene.join(1, on_state_request=hook)
        scene.clusters = await join_all(joins)
        for node, cluster in scene.clusters.items():
            scene.books[node].begin(cluster)
        await scene.clusters.pop(4).leave()
        scene.books[4] = Book()
        await scene.until(lambda: len(scene.clusters[2].view.members) == 3)
        await scene.write(2, "one")
        await scene.begin(4)
        await scene.until(lambda: scene.books[4].lines == ["one"])
        reader = scene.books[1].reader
        assert reader is not None
        with pytest.raises(StateFailed, match=words) as caught:
            await reader
        assert ("KeyError" in words) == isinstance(caught.value.__cause__, KeyError)
        with pytest.raises(StateFailed, match=words):
            await scene.clusters[1].multicast(b"late")
        assert scene.clusters[4].view.members == (2, 3, 4)

    play(scene, body)


@pytest.mark.parametrize("large", [True, False])
def test_a_newcomer_that_cannot_take_the_state_ends(tmp_path: Path, large: bool) -> None:
    """To go on without it would be to answer from nothing; the limit holds to the byte."""
    scene = Scene(tmp_path)
    size = len(json.dumps(["0123456789"]))
    words = f"of node 1 has {size} bytes, and this node takes at most {size - 1}"

    def fail(state: bytes) -> None:
        raise ValueError(f"not in {len(state)} bytes")

    async def body() -> None:
        await scene.without_third()
        await scene.write(1, "0123456789")
        most = size - 1 if large else size
        scene.config = replace(scene.config, limits=Limits(state_bytes_max=most))
        three: Cluster = await scene.join(3, on_state=scene.books[3].take if large else fail)
        expected = words if large else rf"on_state raised ValueError\('not in {size} bytes'\)"
        seen: list[Event] = []
        with pytest.raises(StateFailed, match=expected):
            await read_into(seen, three)
        assert not [event for event in seen if isinstance(event, Message)]
        with pytest.raises(StateFailed, match=expected):
            await three.multicast(b"late")
        await scene.until(lambda: scene.views(1)[-1] == "view 2")

    play(scene, body)


def test_one_hook_alone_is_refused(tmp_path: Path) -> None:
    """A node that takes state and cannot give it would be a donor without state."""
    scene = Scene(tmp_path)

    async def body() -> None:
        for missing in ("on_state", "on_state_request"):
            with pytest.raises(UsageError, match="or neither"):
                scene.join(1, **{missing: None})

    play(scene, body)


def test_a_newcomer_that_waits_for_state_can_be_left_and_evicted(tmp_path: Path) -> None:
    """Whoever waits is told of the end like everybody else."""
    scene = Scene(tmp_path)

    async def body() -> None:
        await scene.without_third()
        await scene.books[1].stop()
        three: Cluster = await scene.join(3)
        for rail in "ab":
            scene.network.cut(3, rail)
        await scene.until(lambda: len(scene.clusters[1].view.members) == 2)
        await scene.write(2, "on we go")
        for rail in "ab":
            scene.network.heal(3, rail)
        seen: list[Event] = []
        with pytest.raises(EvictedError):
            await read_into(seen, three)
        views = [event for event in seen if isinstance(event, ViewInstalled)]
        assert [view.synced for view in views] == [False]
        assert not scene.books[3].calls

        again: Cluster = await scene.join(3)
        await again.leave(timeout=1)
        assert [e async for e in again if isinstance(e, ViewInstalled) and e.synced] == []

    play(scene, body)


def test_barriers_and_sends_need_no_state(tmp_path: Path) -> None:
    """A member without state is a member: it holds what is sent, and meets the others."""
    scene = Scene(tmp_path)

    async def body() -> None:
        await scene.without_third()
        await scene.books[1].stop()
        scene.clusters[3] = await scene.join(3)
        for cluster in scene.clusters.values():
            await scene.until(lambda c=cluster: len(c.view.members) == 3 and c.primary)
        receipt = await scene.clusters[3].multicast(b"from a newcomer")
        await receipt.held(timeout=5)
        waits = [Barriers(c).wait("meeting", timeout=5) for c in scene.clusters.values()]
        assert len(set(await asyncio.gather(*waits))) == 1
        ready = scene.clusters[3].take_ready()
        assert not [event for event in ready if isinstance(event, Message | ViewInstalled)]

    play(scene, body)


def test_errors_of_the_state_are_errors_of_phalanx() -> None:
    """One `except` is enough for a caller who only wants to start again."""
    assert issubclass(StateFailed, PhalanxError)
