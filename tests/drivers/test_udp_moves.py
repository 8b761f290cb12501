"""Datagrams of a peer that is found later, or somewhere else: whose word counts is where it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .datagram_bench import WAIT_S, wait_readable
from .test_udp_datagrams import PORT, UdpDatagrams, made, peer, receive, throw, two

__all__ = ["two"]


@pytest.fixture(params=["many at once", "one by one"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extension, and as it goes where there is none."""
    monkeypatch.setenv("PHALANX_NATIVE", "require" if request.param == "many at once" else "twin")


def test_a_peer_is_known_where_it_is_and_not_where_it_was(two: UdpDatagrams) -> None:
    """First nowhere, as for one that is yet to be found; then at one place and at another."""
    nowhere = replace(peer(2), addresses={})
    datagrams = made(1, nowhere, peer(3))
    datagrams.open()
    try:
        two.cast([1], "a", b"a stranger")
        assert wait_readable(datagrams, WAIT_S)
        assert datagrams.poll() == []
        datagrams.cast([2], "a", b"lost")
        datagrams.learn(replace(peer(2), addresses={"a": "127.0.0.8"}))
        for _ in range(3):
            datagrams.learn(peer(2))
            datagrams.cast([2, 3], "a", b"found")
            two.cast([1], "a", b"known")
            assert receive(two, 1) == [(1, "a", b"found")]
            assert receive(datagrams, 1) == [(2, "a", b"known")]
        throw(b"x", ("127.0.0.8", PORT), ("127.0.0.1", PORT))
        datagrams.learn(nowhere)
        two.cast([1], "a", b"gone")
        datagrams.cast([2, 3], "a", b"lost")
        assert wait_readable(datagrams, WAIT_S)
        assert datagrams.poll() == []
        assert datagrams.stats()["strangers"] == 3
        assert datagrams.stats()["without_address"] == 2
    finally:
        datagrams.close()
