"""A replicated dict: each change is an entry of an ordered channel, so that all copies are equal.

    python examples/kv_store.py         three processes on this machine

Three clerks sell the same seats, by compare-and-set. One of them loses its power, comes back, and
gets from another what was sold meanwhile. No seat is sold twice, and all copies are the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import random
import signal
import sys

from phalanx.barrier import Barriers, OrderedChannel
from phalanx.transport import Cluster
from three import NAMES, Three, run

SEATS = 60


class KeyValueStore:
    """A dict of strings that is the same at every member. Reading it costs nothing."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.data: dict[str, str] = {}
        self._node = cluster.node_id
        self._numbers = itertools.count()
        self._answers: dict[int, asyncio.Future[bool]] = {}
        # Whoever opens the channel late gets the state of another at that place of the order, and
        # then every entry behind it: nothing is missing, and nothing comes twice.
        self._channel = OrderedChannel(
            cluster, name, on_state_request=self._give, on_state=self._take
        )

    async def put(self, key: str, value: str) -> None:
        """Set a key, whatever it is."""
        await self._change({"key": key, "value": value})

    async def compare_and_set(self, key: str, expected: str | None, value: str) -> bool:
        """Set a key if it is as expected (None: if it is not there); says whether it was."""
        return await self._change({"key": key, "value": value, "expected": expected})

    async def sync(self) -> None:
        """Wait until all that is ordered before this call is applied here."""
        await self.compare_and_set("", "never there", "")

    async def follow(self) -> None:
        """Apply every change in the agreed order; has to run as long as the store is used."""
        async for entry in self._channel:
            change = json.loads(entry.payload)
            # Everybody comes to the same answer, for everybody has the same data at this place.
            done = "expected" not in change or self.data.get(change["key"]) == change["expected"]
            if done:
                self.data[change["key"]] = change["value"]
            if entry.sender == self._node and change["number"] in self._answers:
                self._answers[change["number"]].set_result(done)

    async def _change(self, change: dict[str, str | int | None]) -> bool:
        number = change["number"] = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            await self._channel.publish(json.dumps(change).encode())
            return await answer  # not what is true now, but at the place of this entry
        finally:
            del self._answers[number]

    def _give(self) -> bytes:
        return json.dumps(self.data, sort_keys=True).encode()

    def _take(self, state: bytes) -> None:
        self.data = json.loads(state)
        if self.data:
            print(f"has {len(self.data)} keys from another, of what was ordered before it came")

    def digest(self) -> str:
        """Equal for equal data."""
        return hashlib.sha256(self._give()).hexdigest()[:16]


async def clerk(config: str, name: str, back: str = "") -> None:
    """Sell seats, in competition with the others; who comes back helps in the second half."""
    async with asyncio.TaskGroup() as tasks, Cluster.join(config, node=name) as cluster:
        store, barriers = KeyValueStore(cluster, "seats"), Barriers(cluster)
        tasks.create_task(store.follow())
        sold: set[str] = set()
        for half in ("second half",) if back else ("first half", "second half"):
            await barriers.wait(half, parties=3)
            for count, number in enumerate(random.sample(range(SEATS), SEATS)):
                if half == "first half" and name == "gamma" and count == SEATS // 3:
                    print(f"loses its power, after {len(sold)} seats")
                    os.kill(os.getpid(), signal.SIGKILL)
                seat = f"{half}, seat {number}"
                if await store.compare_and_set(seat, None, name):
                    sold.add(seat)

        await store.put(f"last words of {name}", f"sold {len(sold)} seats")
        await barriers.wait("all is sold", parties=3)
        await store.sync()  # all that was published before the barrier is applied here
        print(f"{store.data[f'last words of {name}']}, the copy is {store.digest()}")
        assert len(store.data) == 2 * SEATS + 3, "some seat is not sold"
        booked = {seat for seat, seller in store.data.items() if seller == name}
        assert booked == sold or (back and booked > sold), "sold by another, or never"

        release = await barriers.wait("looked", parties=3, payload=store.digest().encode())
        assert len(set(release.payloads.values())) == 1, "the copies differ"


def story(here: Three) -> None:
    """Gamma's power fails while all three sell, and it is started again."""
    alpha, beta, gamma = (here.start(name) for name in NAMES)
    assert gamma.ends() == -signal.SIGKILL, "it was to lose its power"
    gamma = here.start("gamma", "back")
    assert [node.ends() for node in (alpha, beta, gamma)] == [0, 0, 0], "a clerk has failed"


if __name__ == "__main__":
    sys.exit(run(clerk, story))
