"""Random schedules over the model: who does what next, out of a seed."""

from __future__ import annotations

import random
from collections.abc import Callable

from phalanx.barrier import events
from phalanx.barrier.core import BarrierCore
from phalanx.barrier.settings import AllParties, Count, Named, Settings, Strength, named
from phalanx.transport.config import MS, ClusterConfig
from phalanx.transport.errors import UsageError

from .kinds import DOUBLES, PHASERS, SETTINGS
from .model import Model

DRAWN_MAX = 4
"""Kinds of barriers in one run: with fewer names there are more meetings."""


def run(
    seed: int, *, steps: int = 150, make: Callable[[ClusterConfig, int], BarrierCore] = BarrierCore
) -> Model:
    """One random run; the same seed gives the same run."""
    rng = random.Random(seed)
    model = Model(range(1, rng.randint(2, 4)), make=make)
    everything = [*SETTINGS, *PHASERS, *DOUBLES, "wild"]
    drawn = rng.sample(everything, rng.randint(1, DRAWN_MAX))
    for _ in range(steps):
        _step(model, rng, drawn)
    model.finish()
    return model


def _step(model: Model, rng: random.Random, drawn: list[str]) -> None:
    node = rng.choice(list(model.nodes))
    what = rng.random()
    if what < 0.22:
        _act(model, rng, node, rng.choice(drawn))
    elif what < 0.28:
        model.send(node, rng.randint(1, 3))
        if rng.random() < 0.3:
            model.send_bulk(node, rng.randint(1, 3))
    elif what < 0.40:
        model.take(node)
    elif what < 0.55:
        model.number(node)
    elif what < 0.70:
        for _ in range(rng.randint(1, 4)):
            model.deliver(node)
    elif what < 0.72:
        model.stabilize(node)
    elif what < 0.84:
        model.progress(node, rng.choice(list(model.nodes)))
        model.bulk_progress(node, rng.choice(list(model.nodes)))
    elif what < 0.90:
        model.now_ns += rng.choice((1, 20, 300)) * MS
        model.wake(node)
    elif what < 0.93:
        _give_up(model, rng, node)
    elif what < 0.94:
        model.detach(node)
    elif what < 0.97:
        model.quiesce()
    else:
        _change_view(model, rng, drawn)


def _act(model: Model, rng: random.Random, node: int, name: str) -> None:
    if name in PHASERS:
        _take_part(model, rng, node, name)
    elif name in DOUBLES and name in model.nodes[node].entered:
        model.leave(node, name, spoil=rng.choice(("", "", "a reason")))
    else:
        _arrive(model, rng, node, name)


def _arrive(model: Model, rng: random.Random, node: int, name: str) -> None:
    settings = (SETTINGS | DOUBLES).get(name) or _wild(rng, node)
    if model.nodes[node].waiting(name) is not None:
        return
    if isinstance(settings.parties, Named) and node not in settings.parties.nodes:
        return
    model.arrive(
        node,
        name,
        settings=settings,
        timeout_ns=_timeout(rng),
        payload=_payload(rng, node),
        bulk=rng.random() < 0.2,
    )


def _wild(rng: random.Random, node: int) -> Settings:
    parties = rng.choice([AllParties(), Count(n=2), named({node, 5})])
    return Settings(parties, Strength.ARRIVED if rng.random() < 0.3 else Strength.AGREED)


def _timeout(rng: random.Random) -> int | None:
    timeout = rng.choice((None, None, 10, 100, 1000))
    return None if timeout is None else timeout * MS


def _payload(rng: random.Random, node: int) -> bytes:
    return b"" if rng.random() < 0.6 else b"%d of %d" % (rng.randrange(1000), node)


def _take_part(model: Model, rng: random.Random, node: int, name: str) -> None:
    """Register, arrive, or leave, as it may be; what may not be is refused."""
    here = model.nodes[node]
    if here.core.registered_with(name) is None:
        try:
            model.register(node, name, timeout_ns=_timeout(rng))
        except UsageError:
            assert any(
                c.name == name
                and c.what != "arrive"
                and (c.outcome is None or isinstance(c.outcome, events.Unknown))
                for c in here.calls
            ), "it may register unless it is about to, or to leave"
        return
    try:
        if rng.random() < 0.8:
            if here.waiting(name) is None:
                model.arrive(node, name, timeout_ns=_timeout(rng), payload=_payload(rng, node))
        else:
            arrive = rng.random() < 0.5 and here.waiting(name) is None
            model.deregister(node, name, arrive=arrive, payload=_payload(rng, node))
    except UsageError:
        leaving = ("quit", "arrive and quit", "register")
        assert any(c.name == name and c.what in leaving for c in here.calls)


def _give_up(model: Model, rng: random.Random, node: int) -> None:
    waits = [call for call in model.nodes[node].calls if call.waits]
    if not waits:
        return
    if rng.random() < 0.5:
        model.cancel(node, rng.choice(waits))
    else:
        model.abandon(node, rng.choice(waits))


def _change_view(model: Model, rng: random.Random, drawn: list[str]) -> None:
    stay = set(rng.sample(list(model.nodes), rng.randint(1, len(model.nodes))))
    restarted = {n for n in stay if len(stay) > 1 and rng.random() < 0.1}
    if restarted == stay:
        restarted.pop()
    joiners = {n for n in range(1, 6) if n not in model.nodes and rng.random() < 0.3}
    seen = max(model.nodes[n].cursor for n in stay)

    def meanwhile(node: int) -> None:
        if rng.random() < 0.3:
            _act(model, rng, node, rng.choice(drawn))
        if rng.random() < 0.3:
            model.take(node)

    model.install(
        stay | joiners,
        restarted=restarted,
        entries=rng.randint(seen, len(model.log)),
        fifo={n: rng.randint(0, model.sent[n]) for n in model.nodes},
        before_install=meanwhile,
    )
