"""Every deliberate bug is noticed within 2,000 random runs."""

from __future__ import annotations

import pytest

from ..mutants.catalogue import MUTANTS
from ..mutants.hunt import SEEDS_MAX, hunt

pytestmark = pytest.mark.slow


def test_every_deliberate_bug_is_caught() -> None:
    """A rule that can be left out unnoticed is not tested, whatever else is."""
    missed: list[str] = []
    for mutant, catch, seconds in hunt(MUTANTS, SEEDS_MAX):
        print(f"{mutant.name:40} {catch.tried:5} seeds, {seconds:4.0f} s: {catch.kind}", flush=True)
        if catch.seed is None:
            missed.append(mutant.name)
    assert not missed
