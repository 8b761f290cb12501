"""Locks granted in the agreed order, and what a lock manager does when the membership changes.

    python examples/lock_manager.py     three processes on this machine

On each change of members: *stop* granting; meet the new members at a *barrier*, behind which
nobody acts for the old membership any more; *start* by an entry of the order, at whose place all
free the locks of the departed.

Three nodes count up a number in a file, under a lock and without any other care. One is killed
while it holds the lock: the next of those who wait gets it, and no count is lost. (Against a holder
that is frozen and wakes up too late the resource itself has to help: leader_election.py.)
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from phalanx.barrier import Barriers, OrderedChannel
from phalanx.transport import BarrierBroken, Cluster, View, ViewInstalled
from three import NAMES, Three, run

TURNS = 10


class LockManager:
    """For each lock a queue of requests, the same everywhere; the first of them holds the lock.

    A request is its member's node id and incarnation, and a number, in a list as JSON has it: a
    node that comes back does not hold what it held before, and who has given a lock back, and has
    not read so yet, does not take it for what it asks next. Ids of views are lists too.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.queues: dict[str, list[list[int]]] = {}
        self._cluster = cluster
        self._requests = 0
        self._view = self._started = [0, 0]
        self._waiting: dict[str, tuple[list[int], asyncio.Future[None]]] = {}
        self._channel = OrderedChannel(
            cluster, "locks", on_state_request=self._give, on_state=self._take
        )

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncGenerator[None]:
        """Hold a lock; a node asks once at a time for each name."""
        self._requests += 1
        request = [self._cluster.node_id, self._cluster.incarnation, self._requests]
        granted = asyncio.get_running_loop().create_future()
        self._waiting[name] = request, granted
        try:
            await self._publish({"lock": name, "by": request})
            await granted
            yield
        finally:
            del self._waiting[name]
            await self._publish({"unlock": name, "by": request})

    async def watch(self) -> None:
        """Stop and start at each view; has to run as long as locks are used."""
        async for event in self._cluster:
            if isinstance(event, ViewInstalled):
                await self._recover(event.view)

    async def _recover(self, view: View) -> None:
        self._view = [*view.id]  # Until there is a start for this view nothing is granted.
        # If one of them leaves, there is a newer view, with members who can all come.
        while set(view.incarnations) <= set(self._cluster.view.incarnations):
            try:
                await Barriers(self._cluster).wait(f"stop {view.id}", parties=view.members)
            except BarrierBroken:
                continue
            await self._publish({"start": view.id, "members": view.incarnations})
            break

    async def follow(self) -> None:
        """Keep the queues, in the agreed order; has to run as long as locks are used."""
        async for entry in self._channel:
            match json.loads(entry.payload):
                case {"lock": name, "by": request}:
                    self.queues.setdefault(name, []).append(request)
                case {"unlock": name, "by": request}:
                    self.queues[name].remove(request)
                case {"start": view, "members": members} if view > self._started:
                    # Every member says it; the first is as good as the others.
                    self._started = view
                    for queue in self.queues.values():
                        queue[:] = [request for request in queue if request[:2] in members]
                case _:
                    continue
            self._grant()

    def _grant(self) -> None:
        for name, (request, granted) in self._waiting.items():
            mine = self.queues.get(name, [])[:1] == [request]
            if mine and self._started == self._view and not granted.done():
                granted.set_result(None)

    async def _publish(self, message: dict[str, object]) -> None:
        await self._channel.publish(json.dumps(message).encode())

    def _give(self) -> bytes:
        return json.dumps([self._started, self.queues]).encode()

    def _take(self, state: bytes) -> None:
        self._started, self.queues = json.loads(state)


async def worker(config: str, name: str) -> None:
    """Count up the number in turn with the others."""
    file = Path(config).with_name("number")
    async with asyncio.TaskGroup() as tasks, Cluster.join(config, node=name) as cluster:
        locks, barriers = LockManager(cluster), Barriers(cluster)
        tasks.create_task(locks.watch())
        tasks.create_task(locks.follow())
        for turn in range(TURNS):
            dies = name == "beta" and turn == TURNS // 2
            if turn == TURNS // 2 and not dies:
                await barriers.wait("beta has the lock", parties=3)
            async with locks.lock("number"):
                number, holder = file.read_text().split()
                if holder != "nobody":
                    there = map(cluster.name_of, cluster.view.members)
                    assert holder not in there, f"{holder} holds the lock, too"
                    print(f"gets the lock with which {holder} has died, in view {cluster.view.id}")
                file.write_text(f"{number} {name}")
                if dies:
                    await barriers.wait("beta has the lock", parties=3)
                    await asyncio.sleep(0.2)  # The others ask for it now.
                    waiting = [cluster.name_of(node) for node, *_ in locks.queues["number"][1:]]
                    print(f"dies and has the lock; those who wait: {', '.join(waiting)}")
                    os.kill(os.getpid(), signal.SIGKILL)
                await asyncio.sleep(0.005)  # If another held it as well, a count would be lost.
                file.write_text(f"{int(number) + 1} nobody")
        await barriers.wait("all have counted", parties=2)


def story(here: Three) -> None:
    """Beta is killed while it holds the lock."""
    number = here.folder / "number"
    number.write_text("0 nobody")
    alpha, beta, gamma = (here.start(name) for name in NAMES)
    assert beta.ends() == -signal.SIGKILL, "it was to die"
    assert [alpha.ends(), gamma.ends()] == [0, 0], "a worker has failed"
    counted = number.read_text()
    print(f"the number is {counted.split()[0]}")
    assert counted == f"{2 * TURNS + TURNS // 2} nobody", "a count is lost, or made twice"


if __name__ == "__main__":
    sys.exit(run(worker, story))
