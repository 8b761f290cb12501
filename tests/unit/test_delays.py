"""Delays are the same whether nodes are noted one by one or together."""

from __future__ import annotations

import random

from phalanx.transport.delays import GROUPS_MAX, Delays


def test_together_is_each_by_itself() -> None:
    """Any mixture, and more groups than are kept."""
    generator = random.Random(1)
    mixed, single = Delays(), Delays()
    for _ in range(50 * GROUPS_MAX):
        nodes = tuple(sorted(generator.sample(range(1, 9), generator.randrange(1, 9))))
        delay_ns = generator.randrange(1000)
        for node in nodes:
            single.note(node, delay_ns)
        if generator.random() < 0.8:
            mixed.note_together(nodes, delay_ns)
        else:
            for node in nodes:
                mixed.note(node, delay_ns)
        if generator.random() < 0.01:
            assert mixed.all() == single.all()
    assert mixed.all() == single.all()
    assert list(mixed.all()) == sorted(mixed.all())
    assert all(
        count > 0 and mean_ns <= worst_ns for count, mean_ns, worst_ns in mixed.all().values()
    )
