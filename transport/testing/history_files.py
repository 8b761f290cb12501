"""Histories on disk: one file for each process, read into what checkers take."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from ..errors import PhalanxError
from .evidence import FOR_EVER_NS, Evidence, History
from .history import (
    SUFFIX,
    Accepted,
    AnyRecord,
    Arrived,
    Began,
    Ended,
    Missed,
    Refused,
    Returned,
    Sent,
    decode,
    encode,
)


class HistoryUnusable(PhalanxError):
    """These files cannot be judged; the message says which line of which file, and why."""


def files_in(places: Iterable[Path]) -> list[Path]:
    """History files, in folders and by name.

    Raises:
        HistoryUnusable: a place does not exist, or there is no history in it.
    """
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            inside = sorted(place.rglob(f"*{SUFFIX}"))
            if not inside:
                raise HistoryUnusable(f"{place}: no file in it is called *{SUFFIX}")
            found += inside
        elif place.exists():
            found.append(place)
        else:
            raise HistoryUnusable(f"{place}: there is no such file or folder")
    return found


def load(places: Iterable[Path], *, until_ns: int | None = None) -> Evidence:
    """The histories in these files and folders, of one run.

    While processes still write, `until_ns` is a time of now: what came later is left out, for
    another file may already have been read to its end.

    Raises:
        HistoryUnusable: a line is no record, events are missing, or a message was sent twice.
    """
    histories = [
        History(records)
        for path in files_in(places)
        for records in _incarnations(path, FOR_EVER_NS if until_ns is None else until_ns)
        if records
    ]
    _check_names(histories)
    return Evidence(histories)


def end_history(path: Path, at_ns: int) -> None:
    """Note that the process that wrote this file has been killed.

    A last line that it did not finish is removed.
    """
    with path.open("r+b") as file:
        end = file.read().rfind(b"\n") + 1
        file.truncate(end)
        file.seek(end)
        file.write(encode(Ended(at_ns)))


def read_records(path: Path) -> Iterator[AnyRecord]:
    """The records of one file; a last line that was not finished is left out.

    Raises:
        HistoryUnusable: the file cannot be read, or a line is no record.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    yield _record(path, number, line)
    except OSError as error:
        raise HistoryUnusable(f"{path}: {error.strerror or error}") from error


def _record(path: Path, number: int, line: bytes) -> AnyRecord:
    try:
        return decode(line)
    except msgspec.MsgspecError as error:
        raise HistoryUnusable(f"{path}:{number}: no record of a history: {error}") from None


def _incarnations(path: Path, until_ns: int) -> list[list[AnyRecord]]:
    """What belongs to each incarnation of the process that wrote the file, in order.

    A call of an incarnation that has begun already, but of which the application has not read so
    yet, is put where that one begins.
    """
    found: dict[int, list[AnyRecord]] = {}
    early: dict[int, list[AnyRecord]] = {}
    calls: dict[tuple[bool, int], int] = {}
    current = 0
    for number, record in enumerate(read_records(path), start=1):
        if record.at_ns > until_ns:
            continue
        whose = current
        match record:
            case Began(incarnation=incarnation):
                current = incarnation
                if current in found:
                    raise HistoryUnusable(f"{path}:{number}: start {current} begins twice")
                found[current] = [record, *early.pop(current, ())]
                continue
            case Sent(number=call, incarnation=other):
                whose = calls[False, call] = other or current
            case Arrived(ticket=call, incarnation=other):
                whose = calls[True, call] = other or current
            case Accepted(number=call) | Refused(number=call):
                whose = calls.get((False, call), current)
            case Returned(ticket=call):
                whose = calls.get((True, call), current)
            case Missed(text=text):
                raise HistoryUnusable(f"{path}:{number}: events are missing here: {text}")
            case _:
                pass
        if not current:
            raise HistoryUnusable(f"{path}:{number}: a history begins with `began`")
        (found[whose] if whose in found else early.setdefault(whose, [])).append(record)
    if not found and os.path.getsize(path):
        raise HistoryUnusable(f"{path}:1: a history begins with `began`")
    return list(found.values())


def _check_names(histories: Iterable[History]) -> None:
    """A message that two calls have sent cannot be followed."""
    seen: set[bytes] = set()
    for history in histories:
        for sending in history.sent:
            if sending.refused:
                continue
            if sending.message in seen:
                raise HistoryUnusable(
                    f"node {sending.sender.node} has sent a message that was sent before: messages "
                    "must be unique over a run, or none could be followed; number them"
                )
            seen.add(sending.message)
