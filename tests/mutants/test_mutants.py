"""The catalogue of deliberate bugs keeps up with the sources (`python -m tests.mutants.hunt`)."""

from __future__ import annotations

import pytest

from .catalogue import MUTANTS
from .hunt import read_caught
from .mutant import Mutant
from .play import mutated, play

CAUGHT = read_caught()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_changes_what_it_says(mutant: Mutant) -> None:
    """Its passages stand in the sources, and what replaces them differs and is Python."""
    for edit in mutant.edits:
        assert edit.old != edit.new
    for path, text in mutated(mutant).items():
        compile(text, path, "exec")


def test_names_are_unique() -> None:
    """Results are kept by name."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_is_caught_by_the_seed_that_is_known_for_it(mutant: Mutant) -> None:
    """Left out, each rule breaks something that somebody sees (`make mutants` finds the seeds)."""
    known = CAUGHT[mutant.name]
    assert known.seed is not None
    assert play(mutant, [known.seed]).seed == known.seed


def test_the_code_as_it_is_holds_on_all_these_seeds() -> None:
    """It is the mutants that are caught, and nothing else."""
    seeds = sorted({catch.seed for catch in CAUGHT.values() if catch.seed is not None})
    assert play(None, seeds).seed is None
