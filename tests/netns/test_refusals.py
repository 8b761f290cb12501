"""What must not join does not join, and is told why in words that help."""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .harness import Fleet, Node, now_ns
from .reports import Leave

pytestmark = pytest.mark.netns

UDP_PORT = 9899


def failure(fleet: Fleet, host: str, config: Path | None = None, timeout: float = 2.0) -> Node:
    """A process that tried to join and ended with an error; its last words are the error."""
    node = fleet.spawn(host, timeout=timeout, config=config)
    assert node.await_end() == 1, node.story()
    assert node.seen[-1].kind == "Failed", node.story()
    return node


@contextmanager
def without(fleet: Fleet, host: str) -> Generator[None, None, None]:
    """The host's node has left, and comes back at the end."""
    fleet[host].ask(Leave())
    fleet[host].await_end()
    yield
    fleet.start(host)
    fleet.await_whole()
    fleet.settle()


def test_a_second_process_of_a_node_is_refused_and_does_no_harm(trio: Fleet) -> None:
    """Two processes with one identity would break every promise: the state folder is locked."""
    view = trio["alpha"].view()
    trio.stream(200)
    trio.flow(20)
    second = failure(trio, "charlie")
    assert second.seen[-1].state == "StateDirLocked"
    trio.flow(20)
    trio.settle()
    assert trio["alpha"].view() == view


@pytest.mark.parametrize(("kind", "word"), [("UDP", "UDP"), ("TCP", "TCP")])
def test_a_taken_port_is_named(trio: Fleet, kind: str, word: str) -> None:
    """usrsctp is silent about a taken UDP port, so that a node would just never be heard."""
    datagram = kind == "UDP"
    with without(trio, "charlie"):
        type_ = socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM
        with trio.lab.socket("charlie", kind=type_) as taken:
            taken.bind((trio.lab.address("a", "charlie"), UDP_PORT))
            if not datagram:
                taken.listen()
            ended = failure(trio, "charlie")
        assert ended.seen[-1].state == "PortTaken"
        assert f"{word} port {UDP_PORT}" in ended.seen[-1].text


def test_a_node_with_another_configuration_is_refused_by_the_name_of_the_key(trio: Fleet) -> None:
    """Majorities of two different files need not intersect; the error says what differs."""
    other = trio.folder / "other.toml"
    text = trio.config.read_text(encoding="utf-8")
    charlie = text.index("[[node]]\n", text.index('name = "bravo"'))
    changed = text[charlie:].replace("id = 3\n", "id = 3\nvotes = 2\n", 1)
    # Only the votes: the state folder stays that of the node.
    other.write_text(text[:charlie] + changed, encoding="utf-8")
    assert other.read_text(encoding="utf-8") != text
    with without(trio, "charlie"):
        started_ns = now_ns()
        refused = failure(trio, "charlie", other)
        assert refused.seen[-1].state == "JoinTimeout"
        assert "node.3.votes" in refused.seen[-1].text
        for host in ("alpha", "bravo"):
            event = trio[host].await_event("PeerRefused", started_ns, peer=3)
            assert "configuration differs" in event.text
        assert not any(3 in seen.members for seen in trio["alpha"].views(started_ns))


def test_a_node_of_another_cluster_is_refused(trio: Fleet) -> None:
    """Two clusters on the same rails and ports by mistake must never mix."""
    other = trio.lab.cluster_toml(trio.folder / "stranger.toml", hosts=3, name="stranger")
    with without(trio, "charlie"):
        started_ns = now_ns()
        refused = failure(trio, "charlie", other)
        assert refused.seen[-1].state == "JoinTimeout"
        assert not any(3 in seen.members for seen in trio["alpha"].views(started_ns))


def test_alone_a_node_says_whom_it_waits_for(trio: Fleet, tmp_path: Path) -> None:
    """The first of three terminals must not look hung: the error names the missing nodes."""
    config = trio.lab.cluster_toml(
        tmp_path / "fresh.toml", hosts=3, name="fresh", port=5500, udp_port=5500
    )
    ended = failure(trio, "alpha", config, timeout=1.0)
    assert ended.seen[-1].state == "JoinTimeout"
    assert "bravo" in ended.seen[-1].text or "2" in ended.seen[-1].text
    assert "charlie" in ended.seen[-1].text or "3" in ended.seen[-1].text
