"""What was encoded is decoded; everything else is None, and never raises."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.transport import wire, wire_data, wire_probe
from phalanx.transport.events import Lane, Member, ViewId

u63 = st.integers(0, 2**63 - 1)
node_ids = st.integers(0, 2**31 - 1)
u32 = st.integers(0, 2**32 - 1)
view_ids = st.builds(ViewId, u32, u32)
members = st.builds(Member, node_ids, u63)
ballots = st.tuples(u63, node_ids)
values = st.builds(
    wire.ViewValue,
    era=st.integers(0, 2**32 - 2),
    k=u63,
    members=st.lists(members, max_size=4).map(tuple),
    continuing=st.lists(node_ids, max_size=4).map(tuple),
    donor=node_ids,
    cut=st.lists(st.builds(wire.CutEntry, node_ids, node_ids, u63), max_size=4).map(tuple),
    reasons=st.dictionaries(node_ids, st.text(max_size=8), max_size=3),
)
held = st.lists(st.builds(wire.Held, node_ids, node_ids, node_ids, u63), max_size=4).map(tuple)
controls: st.SearchStrategy[wire.Control] = st.one_of(
    st.builds(
        wire.Row,
        incarnation=u63,
        reach=st.lists(members, max_size=3).map(tuple),
        dead=st.lists(members, max_size=3).map(tuple),
        left=st.lists(members, max_size=3).map(tuple),
        decided=view_ids,
        installed=st.booleans(),
        synced=st.booleans(),
        leaving=st.booleans(),
        votes_in_ns=st.integers(-1, 2**62),
        closed=u63,
        ballot=ballots,
        grants=st.dictionaries(node_ids, u63, max_size=3),
    ),
    st.builds(
        wire.Prepare,
        k=u63,
        ballot=ballots,
        members=st.lists(members, max_size=3).map(tuple),
        known=st.none() | values,
    ),
    st.builds(
        wire.Promise,
        k=u63,
        ballot=ballots,
        vote=st.booleans(),
        accepted_ballot=ballots,
        accepted=st.none() | values,
        installed=view_ids,
        synced=view_ids,
        held=held,
        sent=held,
    ),
    st.builds(wire.Nack, k=u63, ballot=ballots, highest=ballots, reason=st.text(max_size=9)),
    st.builds(wire.HeldAll, k=u63, ballot=ballots),
    st.builds(
        wire.Accept, ballot=ballots, value=values, dead=st.lists(members, max_size=3).map(tuple)
    ),
    st.builds(wire.Install, value=values),
    st.builds(
        wire.Ack,
        view_id=view_ids,
        entries=st.lists(
            st.builds(wire.AckEntry, node_ids, node_ids, node_ids, u63, u63, u63), max_size=3
        ).map(tuple),
        done=u63,
        resync=st.booleans(),
    ),
    st.builds(wire.End, view_id=view_ids, epoch=u63, sequence=u63, done=u63),
)


@given(controls)
def test_a_control_message_survives_the_wire(message: wire.Control) -> None:
    """Both sides must mean the same."""
    assert wire.decode_control(wire.encode_message(message)) == message


@given(st.binary(max_size=200))
def test_garbage_is_none_everywhere(garbage: bytes) -> None:
    """What the network sends never raises."""
    for decode in (wire.decode_control, wire.decode_hello, wire.decode_record):
        result = decode(garbage)
        assert result is None or isinstance(result, msgspec.Struct)
    assert wire_probe.decode_probes(garbage, 300, 1) is None
    for offset in (0, 7, len(garbage)):
        assert isinstance(wire_data.decode_data(garbage, offset), wire_data.Data | None)
        assert isinstance(wire_probe.decode_probes(garbage, offset, 1), list | None)


@given(controls, st.data())
def test_damaged_messages_are_none_or_whole(message: wire.Control, data: st.DataObject) -> None:
    """A message cut short, or with one byte changed, is refused or understood, never half read."""
    body = wire.encode_message(message)
    end = data.draw(st.integers(0, len(body) - 1))
    assert wire.decode_control(body[:end]) is None
    place = data.draw(st.integers(0, len(body) - 1))
    changed = bytearray(body)
    changed[place] = data.draw(st.integers(0, 255))
    result = wire.decode_control(bytes(changed))
    assert result is None or wire.decode_control(wire.encode_message(result)) == result


@given(
    view_ids,
    st.tuples(u32, u32, st.integers(0, 255)),
    st.integers(0, 31),
    st.tuples(u63, u63, u63, u63),
    st.none() | st.builds(wire_data.Meeting, u32, st.integers(1, 64), st.integers(0, 2**64 - 1)),
    st.text(max_size=20),
    st.binary(max_size=9),
)
def test_a_data_header_survives_the_wire(
    view_id: ViewId,
    key: tuple[int, int, int],
    flags: int,
    numbers: tuple[int, int, int, int],
    meeting: wire_data.Meeting | None,
    channel: str,
    prefix: bytes,
) -> None:
    """Numbers, marks and the channel decide where a batch belongs."""
    stream = wire_data.StreamKey(*key)
    epoch, sequence, fifo, bulk = numbers
    if stream.lane != Lane.ORDERED:
        meeting = None
    done = 7 if stream.lane == Lane.ORDERED else 0
    body = wire_data.encode_data(
        view_id,
        stream,
        flags=flags,
        epoch=epoch,
        sequence=sequence,
        mark_fifo=fifo,
        mark_bulk=bulk,
        channel=channel.encode(),
        done=done,
        meeting=meeting,
    )
    got = wire_data.decode_data(prefix + body, len(prefix))
    end = len(prefix) + len(body)
    flags |= wire_data.MEETING if meeting is not None else 0
    assert got == wire_data.Data(
        *view_id, *stream, flags, epoch, sequence, fifo, bulk, channel, end, done, meeting
    )
    for size in range(len(body)):
        assert wire_data.decode_data(prefix + body[:size], len(prefix)) is None


def test_a_channel_that_is_no_utf_8_is_none() -> None:
    """It cannot have come from one of us."""
    body = wire_data.encode_data(
        ViewId(1, 1),
        wire_data.StreamKey(1, 0, 2),
        flags=0,
        epoch=0,
        sequence=1,
        mark_fifo=0,
        mark_bulk=0,
        channel=b"\xff",
    )
    assert wire_data.decode_data(body, 0) is None


probes = st.builds(
    wire_probe.Probe,
    granted=st.booleans(),
    rail=st.integers(0, 2**16 - 1),
    addressee=st.integers(0, 3),
    sent_ns=st.integers(0, 2**64 - 1),
    view_id=view_ids,
)


@given(st.lists(probes, min_size=1, max_size=wire_probe.PROBES_MAX))
def test_probes_survive_the_wire(sent: list[wire_probe.Probe]) -> None:
    """An answer returns the prober's own clock to the nanosecond, and only to the prober."""
    body = wire_probe.encode_probes(sent)
    for node in (1, 2):
        ours = [probe for probe in sent if probe.addressee in (0, node)]
        assert wire_probe.decode_probes(body, 0, node) == ours
    assert wire_probe.decode_probes(body + b"x", 0, 1) is None
    assert wire_probe.decode_probes(body[:-1], 0, 1) is None
    assert wire_probe.decode_probes(b"", 0, 1) is None
    assert wire_probe.decode_probes(body * (wire_probe.PROBES_MAX + 1), 0, 1) is None


@given(values, ballots, st.dictionaries(node_ids, st.tuples(u63, u63), max_size=3))
def test_a_record_survives_the_disk(
    value: wire.ViewValue, ballot: tuple[int, int], seen: dict[int, tuple[int, int]]
) -> None:
    """It is all that a restarted node knows."""
    record = wire.Record(
        cluster="c", node=1, incarnation=3, decided=value, promised=ballot, seen=seen, voter=False
    )
    assert wire.decode_record(wire.encode_record(record)) == record


@pytest.mark.parametrize(("era", "known"), [(2**32 - 2, True), (2**32 - 1, False), (-1, False)])
def test_an_era_fits_into_every_header(era: int, known: bool) -> None:
    """It goes into probes and batches as well: one that does not fit there would end a process."""
    value = wire.ViewValue(era=0, k=1, members=(), continuing=(), donor=0, cut=(), reasons={})
    frame = wire.encode_message(wire.Install(value=msgspec.structs.replace(value, era=era)))
    assert (wire.decode_control(frame) is not None) is known


@pytest.mark.parametrize("number", [-1, 2**63])
def test_a_count_out_of_range_is_none(number: int) -> None:
    """The limit is 2**63 - 1; a later arithmetic surprise starts with one more."""
    good = wire.encode_message(wire.Accepted(k=2**63 - 1, ballot=(1, 1)))
    assert wire.decode_control(good) is not None
    raw = msgspec.msgpack.decode(good)
    raw[1] = number
    assert wire.decode_control(msgspec.msgpack.encode(raw)) is None
