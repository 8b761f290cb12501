"""Histories on disk: what a killed process leaves is legal, what is damaged is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from phalanx.transport.events import Lane, Member, ViewId
from phalanx.transport.testing.history import (
    SUFFIX,
    Accepted,
    AnyRecord,
    Began,
    Ended,
    Got,
    Installed,
    Missed,
    Refused,
    Returned,
    Sent,
    decode,
    encode,
    name_of,
)
from phalanx.transport.testing.history_files import (
    HistoryUnusable,
    end_history,
    load,
    read_records,
)

VIEW = Installed(2, ViewId(1, 1), (Member(1, 1), Member(2, 1)), {3: "its process died"})


def write(path: Path, *records: AnyRecord) -> Path:
    """A file of these records."""
    path.write_bytes(b"".join(map(encode, records)))
    return path


def sent(number: int, text: bytes, incarnation: int = 0) -> Sent:
    """A multicast."""
    return Sent(3, number, Lane.FIFO, 0, (name_of(text),), 99, incarnation=incarnation)


def test_a_record_is_read_as_it_was_written() -> None:
    """Nothing may be lost on the way: lanes, views and parties have their types again."""
    for record in (
        VIEW,
        sent(1, b"x"),
        Got(4, 2, Lane.BULK, ViewId(1, 1), (name_of(b"x"),), directed=True),
        Returned(5, 1, "stage", "released", parties=(Member(1, 1),)),
    ):
        assert decode(encode(record)) == record


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    """A process that is killed does not finish its sentence."""
    path = write(tmp_path / f"a{SUFFIX}", Began(1, 1, 1), VIEW, sent(1, b"x"))
    whole = path.read_bytes()
    for end in range(len(whole) - len(encode(sent(1, b"x"))) + 1, len(whole)):
        path.write_bytes(whole[:end])
        assert list(read_records(path)) == [Began(1, 1, 1), VIEW]
    end_history(path, 7)
    assert list(read_records(path)) == [Began(1, 1, 1), VIEW, Ended(7)]


@pytest.mark.parametrize(
    "line", [b"{}", b'{"is":"got"}', b"nonsense", b'{"is":"began","at_ns":"x"}', b""]
)
def test_a_line_that_is_no_record_is_named_with_its_file(tmp_path: Path, line: bytes) -> None:
    """Whoever has a damaged file needs to find the place."""
    path = write(tmp_path / f"a{SUFFIX}", Began(1, 1, 1), VIEW)
    path.write_bytes(path.read_bytes() + line + b"\n" + encode(sent(1, b"x")))
    with pytest.raises(HistoryUnusable, match=rf"a{SUFFIX}:3: no record"):
        load([path])


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([VIEW], "a history begins with `began`"),
        ([Began(1, 1, 1), Began(2, 1, 1)], ":2: start 1 begins twice"),
        ([Began(1, 1, 1), VIEW, Missed(3, "4 PathChanged")], ":3: events are missing"),
        ([Began(1, 1, 1), VIEW, sent(1, b"x"), sent(2, b"x")], "sent before"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    tmp_path: Path, records: list[AnyRecord], words: str
) -> None:
    """A verdict on half a history, or on messages that cannot be told apart, would be none."""
    path = write(tmp_path / f"a{SUFFIX}", *records)
    with pytest.raises(HistoryUnusable, match=words):
        load([path])


def test_a_place_without_histories_is_refused(tmp_path: Path) -> None:
    """A misspelt folder must not pass for a run in which nothing happened."""
    with pytest.raises(HistoryUnusable, match="no file in it is called"):
        load([tmp_path])
    with pytest.raises(HistoryUnusable, match="no such file"):
        load([tmp_path / "gone"])


def test_a_refused_message_may_be_sent_again(tmp_path: Path) -> None:
    """Only what may have been accepted counts as sent."""
    path = tmp_path / f"a{SUFFIX}"
    write(
        path,
        Began(1, 1, 1),
        VIEW,
        sent(1, b"x"),
        Refused(4, 1, "Overloaded"),
        sent(2, b"x"),
        Accepted(5, 2),
    )
    [history] = load([path]).histories
    assert [sending.refused for sending in history.sent] == [True, False]
    assert history.sent[1].accepted == 5


def test_each_incarnation_is_a_history_of_its_own(tmp_path: Path) -> None:
    """A process that rejoins goes on in its file.

    It may send as the next incarnation before its application has read that it is one.
    """
    path = tmp_path / f"a{SUFFIX}"
    early = sent(2, b"y", incarnation=2)
    write(
        path,
        Began(1, 1, 1),
        VIEW,
        sent(1, b"x"),
        Accepted(4, 1),
        early,
        Accepted(5, 2),
        Began(6, 1, 2),
        Installed(7, ViewId(1, 2), (Member(1, 2), Member(2, 1))),
    )
    first, second = load([path]).histories
    assert (first.member, second.member) == (Member(1, 1), Member(1, 2))
    assert [sending.message for sending in first.sent] == [name_of(b"x")]
    assert [sending.message for sending in second.sent] == [name_of(b"y")]
    assert second.sent[0].accepted == 2, "behind its beginning and its call"


def test_what_came_after_a_time_is_left_out(tmp_path: Path) -> None:
    """Files of processes that still write are read one after another."""
    path = write(tmp_path / f"a{SUFFIX}", Began(1, 1, 1), VIEW, sent(1, b"x"))
    assert len(load([path], until_ns=2).sent) == 0
    assert len(load([path], until_ns=3).sent) == 1
