"""A leader for each view, whose fencing token lets the storage refuse a leader of the past.

    python examples/leader_election.py      three processes on this machine

The leader of a view is its lowest member, once all members have said at a barrier that they know
the view. A barrier of strength `safe` also binds those who are cut off afterwards, and gives each
election a larger token than all before.

No election can help against this: a leader is frozen between its decision to write and the
write, another one is elected, and then the first one goes on where it was. The storage can.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
from pathlib import Path

from msgspec.structs import astuple

from phalanx.barrier import Barriers, Release
from phalanx.transport import BarrierBroken, Cluster, View, ViewInstalled
from three import NAMES, Three, run


class Storage:
    """A file that is written by leaders, each write with a token; it stands for any resource."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def write(self, token: tuple[int, ...], line: str) -> bool:
        """Append a line, unless a larger token was seen before; says whether it was done.

        The comparison is made by the resource, in one step with the write. If the leader looked
        first and then wrote, it could be frozen in between.
        """
        with self._file.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if any(token < seen for seen, _ in self.read()):
                return False
            file.write(json.dumps([token, line]) + "\n")
        return True

    def read(self) -> list[tuple[tuple[int, ...], str]]:
        """All lines, each with the token of its writer."""
        entries = map(json.loads, self._file.read_text().splitlines())
        return [(tuple(token), line) for token, line in entries]


async def elect(cluster: Cluster, view: View) -> Release | None:
    """Meet all members of a view; None if one has left it, so that a newer view follows.

    Each view has a barrier of its own: who reads of a view late cannot hit the next election.
    """
    while set(view.incarnations) <= set(cluster.view.incarnations):
        try:
            return await Barriers(cluster).wait(
                f"leader of view {view.id}", parties=view.members, strength="safe"
            )
        except BarrierBroken as broken:  # for all: by one who left, or had to give up
            print(f"no leader of view {view.id}: {broken.reason}")
    return None


async def candidate(config: str, name: str, freezes: str = "") -> None:
    """Take part in elections, and write when elected."""
    storage = Storage(Path(config).with_name("storage"))
    async with Cluster.join(config, node=name) as cluster:
        async for event in cluster:
            if not isinstance(event, ViewInstalled):
                continue
            release = await elect(cluster, event.view)
            if release is None or release.parties[0].node != cluster.node_id:
                continue
            assert release.token is not None, "safe releases have one"
            token = astuple(release.token)
            print(f"is elected by {len(release.parties)} members, with token {token}")
            if freezes:
                print("freezes, just before it writes")
                os.kill(os.getpid(), signal.SIGSTOP)
                print("wakes up, and goes on with its write")
            if not storage.write(token, name):
                print("is refused: a newer leader has written")
                return  # Whoever finds out that it is of the past ends, and is started again.
            print(f"writes, with token {token}")


def story(here: Three) -> None:
    """Alpha leads and is frozen, beta leads, alpha wakes up; started again, alpha leads again."""
    alpha, beta, _ = (here.start(name, *["freezes"] * (name == "alpha")) for name in NAMES)
    alpha.says("freezes")
    beta.says("writes")
    alpha.wake()
    alpha.says("is refused")
    assert alpha.ends() == 0, "it was to end in good order"
    here.start("alpha").says("writes")
    written = Storage(here.folder / "storage").read()
    print(f"the storage has what was written by {' and then '.join(line for _, line in written)}")
    assert written == sorted(written), "a leader of the past has written"


if __name__ == "__main__":
    sys.exit(run(candidate, story))
