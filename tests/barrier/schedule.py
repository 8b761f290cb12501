"""Random schedules over the model: who does what next, out of a seed."""

from __future__ import annotations

import random
from collections.abc import Callable

from phalanx.barrier.core import BarrierCore
from phalanx.barrier.messages import AllParties, Count, Named, Strength, named
from phalanx.transport.config import MS, ClusterConfig

from .model import SETTINGS, Model


def run(
    seed: int, *, steps: int = 150, make: Callable[[ClusterConfig, int], BarrierCore] = BarrierCore
) -> Model:
    """One random run; the same seed gives the same run."""
    rng = random.Random(seed)
    model = Model(range(1, rng.randint(2, 4)), make=make)
    for _ in range(steps):
        _step(model, rng)
    model.finish()
    return model


def _step(model: Model, rng: random.Random) -> None:
    node = rng.choice(list(model.nodes))
    what = rng.random()
    if what < 0.20:
        _arrive(model, rng, node)
    elif what < 0.28:
        model.send(node, rng.randint(1, 3))
    elif what < 0.40:
        model.take(node)
    elif what < 0.55:
        model.number(node)
    elif what < 0.72:
        for _ in range(rng.randint(1, 4)):
            model.deliver(node)
    elif what < 0.84:
        model.progress(node, rng.choice(list(model.nodes)))
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
        _change_view(model, rng)


def _arrive(model: Model, rng: random.Random, node: int) -> None:
    name = rng.choice([*SETTINGS, "wild"])
    parties = SETTINGS.get(name) or rng.choice([AllParties(), Count(n=2), named({node, 5})])
    if model.nodes[node].waiting(name) is not None:
        return
    if isinstance(parties, Named) and node not in parties.nodes:
        return
    strength = Strength.AGREED
    if name == "wild" and rng.random() < 0.3:
        strength = Strength.ARRIVED
    timeout = rng.choice((None, None, 10, 100, 1000))
    model.arrive(
        node,
        name,
        parties=parties,
        strength=strength,
        timeout_ns=None if timeout is None else timeout * MS,
    )


def _give_up(model: Model, rng: random.Random, node: int) -> None:
    waits = [call for call in model.nodes[node].calls if call.waits]
    if not waits:
        return
    if rng.random() < 0.5:
        model.cancel(node, rng.choice(waits))
    else:
        model.abandon(node, rng.choice(waits))


def _change_view(model: Model, rng: random.Random) -> None:
    stay = set(rng.sample(list(model.nodes), rng.randint(1, len(model.nodes))))
    restarted = {n for n in stay if len(stay) > 1 and rng.random() < 0.1}
    if restarted == stay:
        restarted.pop()
    joiners = {n for n in range(1, 6) if n not in model.nodes and rng.random() < 0.3}
    seen = max(model.nodes[n].cursor for n in stay)

    def meanwhile(node: int) -> None:
        if rng.random() < 0.3:
            _arrive(model, rng, node)
        if rng.random() < 0.3:
            model.take(node)

    model.install(
        stay | joiners,
        restarted=restarted,
        entries=rng.randint(seen, len(model.log)),
        fifo={n: rng.randint(0, model.sent[n]) for n in model.nodes},
        before_install=meanwhile,
    )
