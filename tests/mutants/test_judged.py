"""Deliberate bugs that guarantees survive: the tests of what they slow down notice them."""

from __future__ import annotations

import pytest

from .catalogue import MUTANTS
from .mutant import Judged
from .of_carriers import JUDGED
from .play import refuted


@pytest.mark.parametrize("judged", JUDGED, ids=lambda judged: judged.mutant.name)
def test_its_judge_refutes_it(judged: Judged) -> None:
    """Left out, each rule fails the test that is there for it."""
    assert refuted(judged.mutant, [judged.judge])


def test_the_code_as_it_is_satisfies_all_judges() -> None:
    """In a copy like that of a mutant."""
    assert not refuted(None, sorted({judged.judge for judged in JUDGED}))


def test_no_other_mutant_has_its_name() -> None:
    """They are told apart by it."""
    names = [mutant.name for mutant in MUTANTS] + [judged.mutant.name for judged in JUDGED]
    assert len(set(names)) == len(names)
