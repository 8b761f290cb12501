"""One barrier of very many in virtual time: what it costs, and that it notices what is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from phalanx.barrier.cli import app
from phalanx.barrier.sim_barrier_command import (
    GIVING_UP_NODES_MAX,
    HEAD,
    NODES_MAX,
    SimBarrierOptions,
    check,
    line_of,
    parse_absent,
    parse_nodes,
    row_of,
    run,
)
from phalanx.barrier.testing.large import (
    COMPLAINTS_MAX,
    Figures,
    LargeBarrier,
    LargeOptions,
    decode,
    encode,
)
from phalanx.transport.core.ranks import RankSet
from phalanx.transport.core.spread import Dissemination, Forward, Kind, Spread

EVERY_KIND = tuple(Kind)
DOCUMENTED_NODES_MAX = 256
"""Rows of the documented table that are played again here; `make prove` plays the largest."""


def play(kind: Kind, nodes: int, **options: Any) -> Figures:
    """One run, in which everything is right."""
    figures = LargeBarrier(LargeOptions(kind=kind, nodes=nodes, **options)).run()
    assert not figures.complaints
    return figures


# ------------------------------------------------------------------------------- the messages


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_ranks_come_back_from_their_message(drawn: tuple[int, set[int]]) -> None:
    """A rank too many is a release too early."""
    n, ranks = drawn
    message = decode(encode(RankSet.of(ranks), n, asks=True), n)
    assert message is not None
    told, decoded = message
    assert told.asks
    assert decoded == RankSet.of(ranks)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x93\x01\xc2",
        b"\x93\x01\xc2\x91\x01",  # half a run
        b"\x93\x01\xc2\x92\x00\x00",  # an empty run
        b"\x93\x01\xc2\x92\x00\x11",  # more than there are
        b"\x93\x01\xc2\x92\x10\x01",  # after the last
        b"\x93\x01\xc2\x92\xff\x01",  # before the first
        b"\x93\x01\xc2\x94\x00\x02\x00\x02",  # two runs that touch
        b"\x93\x01\xc2\x94\x00\x02\x0d\x03",  # round the ring, into the first run
    ],
)
def test_ranks_that_cannot_be_are_refused(payload: bytes) -> None:
    """Who counts by them would count wrong."""
    assert decode(payload, 16) is None


@given(st.lists(st.integers(-3, 20), max_size=6), st.integers(1, 16))
def test_what_can_be_read_is_ranks_of_the_ring(runs: list[int], n: int) -> None:
    """Whatever a message says, ranges that come out of it are ascending and apart."""
    payload = bytes([0x93, 1, 0xC2, 0x90 + len(runs), *(run & 0xFF for run in runs)])
    message = decode(payload, n)
    if message is not None:
        ranks = message[1]
        assert ranks == RankSet.of(ranks)
        assert RankSet.span(0, n) >= ranks
        assert len(ranks) == sum(runs[1::2])


# --------------------------------------------------------------------------------- the costs


@pytest.mark.parametrize(("nodes", "rounds"), [(2, 1), (3, 1), (16, 4), (64, 6), (100, 7)])
def test_dissemination_costs_a_message_of_each_in_each_round(nodes: int, rounds: int) -> None:
    """Of three nodes the second round has nothing to wait for."""
    figures = play(Kind.DISSEMINATION, nodes)
    assert figures.rounds == rounds
    assert figures.messages == [(nodes - 1).bit_length()] * nodes
    assert figures.released == nodes


@pytest.mark.parametrize("nodes", [2, 3, 16, 100])
def test_the_others_cost_what_their_schedule_says(nodes: int) -> None:
    """Rounds and messages are known beforehand, whatever the delays are."""
    everybody, coordinator, tree = (
        play(kind, nodes) for kind in (Kind.ALL_TO_ALL, Kind.COORDINATOR, Kind.TREE)
    )
    assert everybody.rounds == 1
    assert everybody.messages == [nodes - 1] * nodes
    assert coordinator.rounds == 2
    assert coordinator.messages == [nodes - 1] + [1] * (nodes - 1)
    assert tree.rounds == (2 if nodes < 4 else 4)
    assert sum(tree.messages) == 2 * (nodes - 1)


def test_four_thousand_meet_in_twelve_rounds() -> None:
    """The largest that `make test` plays; one message of each node in each round."""
    figures = play(Kind.DISSEMINATION, 4096)
    assert figures.rounds == 12
    assert set(figures.messages) == {12}
    assert max(figures.payload_bytes) <= 12 * 14


def test_a_seed_repeats_a_run() -> None:
    """Counts in the documents are the same on every machine."""
    first, again, other = (
        play(Kind.COORDINATOR, 50, seed=seed, loss=0.1).payload_bytes for seed in (7, 7, 8)
    )
    assert first == again != other


# ---------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_everybody_is_released_although_messages_are_lost(kind: Kind, seed: int) -> None:
    """Giving up is the way out of a schedule that waits for a message that never comes."""
    figures = play(kind, 24, seed=seed, loss=0.1)
    assert figures.lost
    assert figures.gave_up
    assert figures.released == 24


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("absent", [frozenset({0}), frozenset({5}), frozenset({1, 2, 8})])
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_who_never_arrives_is_named_by_everybody(
    kind: Kind, absent: frozenset[int], silent: bool
) -> None:
    """Late or dead, the coordinator or a head among them: `_judge` compares each one's names."""
    figures = play(kind, 16, absent=absent, silent=silent)
    assert figures.named == dict.fromkeys(set(range(16)) - absent, RankSet.of(absent))


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_the_dead_of_hundreds_are_named_by_everybody(kind: Kind) -> None:
    """All give up at once, as arrivals with the same deadline do; `make prove` plays 1,024."""
    figures = play(kind, 200, window_ns=1000, absent=frozenset({0, 77}), silent=True)
    assert len(figures.named) == 198


class Boastful(Dissemination):
    """Tells of one rank more than it holds."""

    def _schedule(self, new: RankSet) -> list[Forward]:
        return [
            forward._replace(what=forward.what | RankSet.one((self.rank + 1) % self.n))
            for forward in super()._schedule(new)
        ]


class Forgetful(Dissemination):
    """Leaves out its last round, and does not notice that a deadline has passed."""

    def __init__(self, *, n: int, rank: int, wanted: int) -> None:
        super().__init__(n=n, rank=rank, wanted=wanted)
        self._rounds -= 1

    def give_up(self) -> list[Forward]:
        """Says nothing."""
        return []


def broken(schedule: type[Spread], absent: frozenset[int] = frozenset()) -> list[str]:
    """What a run says of a schedule."""

    def make_it(kind: Kind, *, n: int, rank: int, wanted: int) -> Spread:
        del kind
        return schedule(n=n, rank=rank, wanted=wanted)

    options = LargeOptions(kind=Kind.DISSEMINATION, nodes=32, absent=absent)
    return LargeBarrier(options, make_it).run().complaints


def test_a_release_too_early_is_noticed() -> None:
    """The check of barrier safety can fail: one party is always late."""
    complaints = broken(Boastful)
    assert len(complaints) == COMPLAINTS_MAX
    assert re.fullmatch(r"rank \d+ is released when 31 of 32 are there", complaints[0])


def test_a_release_that_never_comes_is_noticed() -> None:
    """And so is who was wrongly named."""
    complaints = broken(Forgetful)
    assert re.fullmatch(r"rank 0 names [\d, -]+, who had arrived", complaints[0])
    few = broken(Forgetful, frozenset(range(3, 32)))
    assert few[0].startswith("rank 0 names ")
    assert few[0].endswith(", and 3-31 are missing")


# ------------------------------------------------------------------------------- the command


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands in the documents."""
    assert run(SimBarrierOptions(nodes=(4, 16), kinds=(Kind.DISSEMINATION, Kind.TREE))) == 0
    said = capsys.readouterr()
    assert said.out.startswith(HEAD)
    assert "| dissemination | 16 | 4 | 4.00 | 4 | " in said.out
    assert len(said.out.splitlines()) == 6
    assert "tree, 16 nodes: " in said.err


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    """For programs; with what it took of this machine."""
    assert run(SimBarrierOptions(nodes=(8,), kinds=(Kind.TREE,), absent=(3,), json=True)) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["algorithm"], row["nodes"], row["gave_up"], row["rounds"]) == ("tree", 8, 7, 0)
    assert row["peak_bytes"] > 1 << 20
    assert row["took_s"] >= 0
    assert row["complaints"] == []


def test_the_command_fails_when_a_barrier_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its exit status is what a script looks at."""
    monkeypatch.setattr(Dissemination, "give_up", Forgetful.give_up)
    monkeypatch.setattr(Dissemination, "complete", property(lambda spread: bool(spread.holds)))
    options = SimBarrierOptions(nodes=(16,), kinds=(Kind.DISSEMINATION, Kind.TREE))
    assert run(options) == 1
    assert "dissemination, 16: rank " in capsys.readouterr().err


def test_the_command_draws_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of all its rows."""
    path = tmp_path / "a.png"
    assert run(SimBarrierOptions(nodes=(4, 8), plot=path)) == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--nodes", "1"], 2, "nodes can be had"),
        (["--nodes", "16", "--absent", "16"], 2, "ranks of 16 nodes are 0 to 15"),
        (["--nodes", "2048", "--loss", "0.1"], 2, "everybody tells everybody"),
        (["--nodes", "4", "--plot", "a.txt"], 1, "phalanx sim-barrier: a.txt: use one of"),
    ],
)
def test_what_cannot_be_played_is_said_before_it_is_tried(
    arguments: list[str], status: int, words: str
) -> None:
    """In one line, not as a traceback."""
    done = CliRunner().invoke(app, ["sim-barrier", *arguments])
    assert done.exit_code == status
    assert words in " ".join(done.output.replace("\u2502", " ").split())


def test_numbers_of_nodes_are_read_as_people_write_them() -> None:
    """In ascending order, each once."""
    assert parse_nodes("64,16,64") == (16, 64)
    assert parse_nodes(f"2,{NODES_MAX}") == (2, NODES_MAX)
    assert parse_absent("", (16,)) == ()
    assert parse_absent("0,3..5", (16, 64)) == (0, 3, 4, 5)


@pytest.mark.parametrize("text", ["", "x", "1", "16,,64", "-4", str(NODES_MAX + 1)])
def test_what_is_no_number_of_nodes_is_refused_in_words(text: str) -> None:
    """A typing error must not play something else."""
    with pytest.raises(ValueError, match="nodes"):
        parse_nodes(text)


@pytest.mark.parametrize("text", ["16", "0..15", "x"])
def test_ranks_that_are_not_there_cannot_be_absent(text: str) -> None:
    """Of sixteen nodes one at least has to be there."""
    with pytest.raises(ValueError, match=r"ranks|somebody|seeds"):
        parse_absent(text, (16,))


def test_giving_up_is_played_as_far_as_somebody_waits_for_it() -> None:
    """Everybody tells everybody then."""
    check(SimBarrierOptions(nodes=(GIVING_UP_NODES_MAX,), loss=0.1))
    check(SimBarrierOptions(nodes=(NODES_MAX,)))
    for options in (
        SimBarrierOptions(nodes=(GIVING_UP_NODES_MAX + 1,), loss=0.1),
        SimBarrierOptions(nodes=(16, GIVING_UP_NODES_MAX + 1), absent=(1,)),
    ):
        with pytest.raises(ValueError, match="everybody tells everybody"):
            check(options)


def test_the_documented_table_is_what_the_command_prints() -> None:
    """Counts that nobody plays again soon tell of another program."""
    text = (Path(__file__).parents[2] / "docs" / "algorithms.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert HEAD in text
    for nodes in (16, 64, DOCUMENTED_NODES_MAX):
        for kind in EVERY_KIND:
            assert line_of(row_of(play(kind, nodes))) in lines
