"""Lifelines for whoever tests them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from phalanx.transport.drivers.lifelines import Lifelines

from .lifeline_bench import CLUSTER, Make, endpoint, free_port


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes opened lifelines, and closes them after the test."""
    with ExitStack() as made:

        def factory(
            node: int, *, port: int = 0, incarnation: int = 1, **addresses: str
        ) -> Lifelines:
            local = endpoint(node, port or free_port(), **addresses)
            lifelines = Lifelines(local, cluster=CLUSTER, incarnation=incarnation, nonce=node * 100)
            lifelines.open()
            made.callback(lifelines.close)
            return lifelines

        yield factory
