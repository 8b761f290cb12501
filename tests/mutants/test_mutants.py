"""The catalogue of deliberate bugs keeps up with the sources (`python -m tests.mutants.hunt`)."""

from __future__ import annotations

import pytest

from .catalogue import MUTANTS
from .mutant import Mutant
from .play import mutated, play


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


def test_a_mutant_that_skips_a_step_is_caught_and_the_code_as_it_is_is_not() -> None:
    """The way from a changed passage to a broken guarantee works."""
    [mutant] = [mutant for mutant in MUTANTS if mutant.name == "skips-the-hold"]
    seeds = range(12)
    caught = play(mutant, seeds)
    assert caught.seed is not None
    assert caught.kind == "view_synchrony"
    assert play(None, seeds).seed is None
