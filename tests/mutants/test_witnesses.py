"""A checker, or a rule that is looked at, of which no deliberate bug hears would be for nothing."""

from __future__ import annotations

import pytest

from phalanx.transport.testing.rules import RULES

from .catalogue import MUTANTS
from .hunt import read_caught
from .play import witnesses
from .witnesses import checkers_of_a_run, read_witnesses


@pytest.mark.parametrize("checker", checkers_of_a_run())
def test_every_checker_speaks_about_some_mutant(checker: str) -> None:
    """With nobody else there to stop it (`python -m tests.mutants.witnesses` finds the seeds)."""
    witness = read_witnesses()[checker]
    mutant = next(mutant for mutant in MUTANTS if mutant.name == witness.mutant)
    assert checker in witnesses(mutant, [witness.seed])


def test_every_rule_that_is_looked_at_stops_some_mutant() -> None:
    """By the seeds that are known; each is played by the test of its mutant."""
    kinds = {catch.kind for catch in read_caught().values()}
    assert {f"rule {rule}" for rule in RULES} <= kinds
