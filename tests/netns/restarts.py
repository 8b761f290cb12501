"""Killing and restarting one node again and again, and what the survivors must not gather."""

from __future__ import annotations

from dataclasses import dataclass

from .harness import MS, Fleet, now_ns
from .outcomes import same_deliveries
from .reports import Answer, Look

RATE = 200


@dataclass(frozen=True, kw_only=True)
class Restarts:
    """What was measured, in the order of the rounds."""

    crash_ms: list[float]
    """SIGKILL to the last survivor's new view."""
    rejoin_ms: list[float]
    """Start of the process to the view with all nodes, everywhere."""
    looks: list[dict[str, Answer]]
    """The survivors, once before all and then after each round."""


def restart_again_and_again(fleet: Fleet, host: str, rounds: int) -> Restarts:
    """Kill and restart `host` under traffic; each time there must be a view with all nodes.

    In every other round it is restarted at once, before the others have a view without it.
    """
    survivors = [name for name in fleet.hosts if name != host]
    ids = [fleet[name].id for name in survivors]
    dead = fleet[host].id
    done = Restarts(crash_ms=[], rejoin_ms=[], looks=[])
    fleet.stream(RATE)
    fleet.flow(RATE // 10)
    done.looks.append(look(fleet, survivors))
    for number in range(rounds):
        before = fleet[host].view()
        assert before is not None, "it was a member"
        killed_ns = fleet[host].kill()
        if number % 2:
            views = fleet.await_view(ids, survivors, killed_ns)
            done.crash_ms.append((max(s.at_ns for s in views.values()) - killed_ns) / MS)
            assert len({seen.view for seen in views.values()}) == 1, fleet.story()
            same_deliveries(views)
        started_ns = now_ns()
        fleet.start(host)
        views = fleet.await_view(fleet.ids, fleet.hosts, killed_ns)
        done.rejoin_ms.append((max(s.at_ns for s in views.values()) - started_ns) / MS)
        after = views[host]
        assert after.members[dead] > before.members[dead], "each start is a new incarnation"
        assert {s.view for s in views.values()} == {after.view}
        stayed = {i: after.members[i] for i in ids}
        assert stayed == {i: before.members[i] for i in ids}, f"round {number}\n{fleet.story()}"
        same_deliveries({name: views[name] for name in survivors})
        fleet.stream(RATE, [host])
        fleet.flow(RATE // 10)
        done.looks.append(look(fleet, survivors))
    fleet.settle()
    return done


def look(fleet: Fleet, hosts: list[str]) -> dict[str, Answer]:
    """What these hosts use now."""
    return {host: fleet[host].ask(Look()) for host in hosts}
