"""The batch codec: one suite for the C implementation and for its pure-Python twin."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx._native import c_codec, codec, twin
from phalanx._native._codec import lib
from phalanx._native.codec import Codec, Frame, FrameError

CLUSTER = codec.cluster_id("alpha")
IMPLEMENTATIONS: dict[str, Codec] = {"c": c_codec, "twin": twin}

payloads = st.binary(max_size=300)
u8, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 32, 64))
headers = st.tuples(u8, u8, u64, u64, u32, u32)


@pytest.fixture(params=["c", "twin"])
def implementation(request: pytest.FixtureRequest) -> Codec:
    """Each implementation in turn."""
    return IMPLEMENTATIONS[request.param]


def batch(count: int, lengths: list[int], rest: bytes) -> bytes:
    """A batch written out by hand, well formed or not."""
    return struct.pack(f"<{1 + len(lengths)}I", count, *lengths) + rest


def sealed(frame: bytearray) -> bytes:
    """The frame with the checksum that belongs to it, whatever else is wrong."""
    frame[40:44] = bytes(4)
    frame[40:44] = twin.crc32c(bytes(frame)).to_bytes(4, "little")
    return bytes(frame)


def good_frame() -> bytearray:
    """A frame to spoil."""
    return bytearray(twin.encode_frame(7, 1, CLUSTER, 3, 1, 2, b"the body"))


def both_unpack(data: bytes, offset: int = 0) -> list[bytes] | None:
    """What both implementations make of a batch."""
    result = c_codec.unpack_batch(data, offset)
    assert result == twin.unpack_batch(data, offset)
    return result


def both_decode(frame: bytes, cluster: int = CLUSTER) -> Frame | FrameError:
    """What both implementations make of a frame."""
    result = c_codec.decode_frame(frame, cluster)
    assert result == twin.decode_frame(frame, cluster)
    return result


# ---------------------------------------------------------------------------------- batches


def test_a_batch_is_count_lengths_payloads(implementation: Codec) -> None:
    """The layout is a contract with other versions: docs/wire.md shows these bytes."""
    wire = bytes.fromhex("03000000 02000000 00000000 03000000 6869 616263")
    assert implementation.pack_batch([b"hi", b"", b"abc"]) == wire
    assert implementation.unpack_batch(wire) == [b"hi", b"", b"abc"]


def test_an_empty_batch_is_four_zero_bytes(implementation: Codec) -> None:
    """No messages is a valid batch, and it is not the same as one empty message."""
    assert implementation.pack_batch([]) == bytes(4)
    assert implementation.unpack_batch(bytes(4)) == []
    assert implementation.unpack_batch(implementation.pack_batch([b""])) == [b""]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000, 4096])
def test_a_batch_of_any_count_comes_back(implementation: Codec, count: int) -> None:
    """One message and many take different ways through the code."""
    messages = [bytes([n % 256]) * (n % 130) for n in range(count)]
    assert implementation.unpack_batch(implementation.pack_batch(messages)) == messages


def test_a_message_over_64_kib_is_not_cut(implementation: Codec) -> None:
    """Lengths have 32 bits: the limits on sizes are the core's, not the layout's."""
    messages = [bytes(70_000), b"x", bytes(1 << 20)]
    assert implementation.unpack_batch(implementation.pack_batch(tuple(messages))) == messages


@given(messages=st.lists(payloads, max_size=40), before=payloads)
def test_both_pack_the_same_and_unpack_it_at_any_offset(
    messages: list[bytes], before: bytes
) -> None:
    """A batch stands behind other fields of a frame, and either side may lack the extension."""
    wire = c_codec.pack_batch(messages)
    assert wire == twin.pack_batch(messages)
    assert both_unpack(before + wire, len(before)) == messages


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(bytes(3), id="half a count"),
        pytest.param(bytes(5), id="something behind an empty batch"),
        pytest.param(batch(1, [], b""), id="a count without a table"),
        pytest.param(batch(2, [0], b""), id="a table too short"),
        pytest.param(batch(2, [0], bytes(3)), id="a table one byte too short"),
        pytest.param(batch(1, [4], b"abc"), id="a payload cut by one byte"),
        pytest.param(batch(1, [2], b"abc"), id="one byte too many"),
        pytest.param(batch(2, [4, 2**32 - 1], b"abc"), id="lengths whose 32-bit sum would fit"),
        pytest.param(batch(2, [2**31, 2**31], b""), id="lengths whose 32-bit sum is zero"),
        pytest.param(batch(2**32 - 1, [0, 0], b""), id="the largest count"),
        pytest.param(batch(2**30, [0], b""), id="a count whose table has 32-bit size zero"),
    ],
)
def test_a_malformed_batch_is_none(implementation: Codec, data: bytes) -> None:
    """What the network sends never raises, and nobody reads past its end."""
    assert implementation.unpack_batch(data) is None
    assert implementation.unpack_batch(b"before" + data, 6) is None


@pytest.mark.parametrize("offset", [-1, -4, -(2**70), 9, 2**31, 2**64, 2**70])
def test_an_offset_outside_the_data_is_none(implementation: Codec, offset: int) -> None:
    """Offsets come from fields of the frame; a negative one must not count from the end."""
    assert implementation.unpack_batch(bytes(8), offset) is None


@given(messages=st.lists(payloads, max_size=8), data=st.data())
def test_a_truncated_batch_is_none(messages: list[bytes], data: st.DataObject) -> None:
    """Every byte of a batch is accounted for, so that a piece of one is never taken for it."""
    wire = twin.pack_batch(messages)
    assert both_unpack(wire[: data.draw(st.integers(0, len(wire) - 1))]) is None


@given(data=st.binary(max_size=64), offset=st.integers(-4, 70))
def test_random_bytes_unpack_to_the_same_or_to_none(data: bytes, offset: int) -> None:
    """What is accepted packs to the same bytes again: there is one encoding of each batch."""
    messages = both_unpack(data, offset)
    if messages is not None:
        assert twin.pack_batch(messages) == data[offset:]


@given(lengths=st.lists(st.integers(0, 6), max_size=6), rest=st.binary(max_size=20), count=u8)
def test_only_lengths_that_add_up_are_accepted(lengths: list[int], rest: bytes, count: int) -> None:
    """Random bytes alone hardly ever get past the count; these nearly fit."""
    messages = both_unpack(batch(len(lengths), lengths, rest))
    assert (messages is not None) == (sum(lengths) == len(rest))
    data = batch(count % 8, lengths, rest)
    again = both_unpack(data)
    assert again is None or twin.pack_batch(again) == data


def test_only_bytes_are_unpacked(implementation: Codec) -> None:
    """Another buffer could change between check and use: C runs without the interpreter's lock."""
    for data in (bytearray(4), memoryview(bytes(4)), "\0\0\0\0"):
        with pytest.raises(TypeError):
            implementation.unpack_batch(cast(Any, data))
        with pytest.raises(TypeError):
            implementation.crc32c(cast(Any, data))


# ------------------------------------------------------------------------------------ CRC32C

VECTORS = [
    # RFC 3720 B.4
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (
        bytes.fromhex(
            "01c00000 00000000 00000000 00000000 14000000 00000400"
            "00000014 00000018 28000000 00000000 02000000 00000000"
        ),
        0xD9963A56,
    ),
    # The catalogue's check value
    (b"123456789", 0xE3069283),
    (b"", 0),
]


@pytest.mark.parametrize(("data", "crc"), VECTORS)
def test_crc32c_has_the_known_values(implementation: Codec, data: bytes, crc: int) -> None:
    """Other tools (a packet capture's dissector, iSCSI, SCTP) compute the same."""
    assert implementation.crc32c(data) == crc
    assert c_codec.crc32c_table(data) == crc


def crc32c_bit_by_bit(data: bytes, value: int) -> int:
    """The definition: division by the polynomial, one bit at a time."""
    crc = value ^ 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@given(data=st.binary(max_size=100), value=u32)
def test_every_way_to_compute_crc32c_agrees(data: bytes, value: int) -> None:
    """A node with the instruction and one without must understand each other."""
    crc = crc32c_bit_by_bit(data, value)
    assert c_codec.crc32c(data, value) == crc
    assert c_codec.crc32c_table(data, value) == crc
    assert twin.crc32c(data, value) == crc


@given(parts=st.lists(st.binary(max_size=30), max_size=5))
def test_crc32c_of_parts_is_that_of_the_whole(parts: list[bytes]) -> None:
    """Frames are summed part by part, wherever the cuts fall in the strides of eight."""
    for crc32c in (c_codec.crc32c, c_codec.crc32c_table, twin.crc32c):
        crc = 0
        for part in parts:
            crc = crc32c(part, crc)
        assert crc == crc32c(b"".join(parts))


@pytest.mark.parametrize("value", [-1, 2**32, 2**70])
def test_a_crc_that_has_not_32_bits_is_refused(implementation: Codec, value: int) -> None:
    """It can only be a mistake of the caller."""
    with pytest.raises(OverflowError):
        implementation.crc32c(b"", value)


def test_the_processors_instruction_is_used_where_it_exists() -> None:
    """Without it a checksum costs several times as much, and nothing else would show it."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as cpuinfo:
        assert c_codec.crc32c_is_hardware() == ("sse4_2" in cpuinfo.read())


# ------------------------------------------------------------------------------------ frames


def test_a_frame_has_the_documented_bytes(implementation: Codec) -> None:
    """The layout is a contract with other versions: docs/wire.md shows these bytes."""
    frame = implementation.encode_frame(
        7, 1, 0x1122334455667788, 0x99AABBCCDDEEFF00, 0x01020304, 0x05060708, b"body"
    )
    assert frame == bytes.fromhex(
        "5048 01 01 07 01 4000 8877665544332211 00ffeeddccbbaa99 04030201 08070605"
        "00000000 04000000 d233921f 00000000 00000000000000000000000000000000 626f6479"
    )
    assert len(frame) == codec.HEADER_BYTES + 4


def test_the_checksum_covers_the_whole_frame_with_its_own_field_as_zero(
    implementation: Codec,
) -> None:
    """The rule as docs/wire.md states it, apart from how it is computed."""
    frame = bytearray(implementation.encode_frame(1, 2, 3, 4, 5, 6, b"any body at all"))
    assert sealed(bytearray(frame)) == bytes(frame)


@given(header=headers, head=payloads, rest=payloads)
def test_both_encode_the_same_and_decode_it(
    header: tuple[int, int, int, int, int, int], head: bytes, rest: bytes
) -> None:
    """Either side may lack the extension; two parts are only another way to give the body."""
    kind, flags, cluster, incarnation, sender, addressee = header
    body = head + rest
    frame = c_codec.encode_frame(*header, body)
    assert twin.encode_frame(*header, body) == frame
    for codec_ in (c_codec, twin):
        start = codec_.frame_start(*header)
        assert codec_.seal_frame(start, head, rest) == frame
        assert codec_.seal_frame(start, body) == frame
    decoded = both_decode(frame, cluster)
    assert decoded == Frame(kind, flags, incarnation, sender, addressee, 64)
    assert frame[64:] == body


@pytest.mark.parametrize("field", range(6))
@pytest.mark.parametrize("low", [True, False])
def test_a_number_that_does_not_fit_its_field_is_refused(
    implementation: Codec, field: int, low: bool
) -> None:
    """It must not spill into the field beside it; each field takes its largest value."""
    largest = [2**bits - 1 for bits in (8, 8, 64, 64, 32, 32)]
    kind, flags, cluster, incarnation, sender, addressee = largest
    assert both_decode(implementation.encode_frame(*largest, body=b""), cluster) == Frame(
        kind, flags, incarnation, sender, addressee, 64
    )
    wrong = list(largest)
    wrong[field] = -1 if low else largest[field] + 1
    with pytest.raises(struct.error):
        implementation.encode_frame(*wrong, body=b"")
    with pytest.raises(struct.error):
        implementation.frame_start(*wrong)


def test_only_bytes_are_framed_and_decoded(implementation: Codec) -> None:
    """A buffer that changes between checksum and copy would make a frame that nobody accepts."""
    with pytest.raises(TypeError):
        implementation.encode_frame(1, 2, 3, 4, 5, 6, cast(Any, bytearray(8)))
    with pytest.raises(TypeError):
        implementation.seal_frame(bytes(36), b"", cast(Any, bytearray(8)))
    with pytest.raises(TypeError):
        implementation.decode_frame(cast(Any, bytearray(80)), CLUSTER)


@pytest.mark.parametrize(
    ("at", "value", "error"),
    [
        pytest.param(0, b"\x51", FrameError.BAD_MAGIC, id="magic, first byte"),
        pytest.param(1, b"\x50", FrameError.BAD_MAGIC, id="magic, second byte"),
        pytest.param(2, b"\x00", FrameError.BAD_VERSION, id="older than the oldest read"),
        pytest.param(3, b"\x02", FrameError.BAD_VERSION, id="readable from version 2 on"),
        pytest.param(6, b"\x00\x00", FrameError.BAD_HEADER, id="a header of 0 bytes"),
        pytest.param(6, b"\x41\x00", FrameError.BAD_HEADER, id="a header of 65 bytes"),
        pytest.param(6, b"\x40\x01", FrameError.BAD_HEADER, id="a header of 320 bytes"),
        pytest.param(32, b"\x01", FrameError.BAD_HEADER, id="a key id"),
        pytest.param(35, b"\x80", FrameError.BAD_HEADER, id="a key id, last bit"),
        pytest.param(44, b"\x01", FrameError.BAD_HEADER, id="reserved"),
        pytest.param(47, b"\x80", FrameError.BAD_HEADER, id="reserved, last bit"),
        pytest.param(48, b"\x01", FrameError.BAD_HEADER, id="a tag"),
        pytest.param(63, b"\x80", FrameError.BAD_HEADER, id="a tag, last bit"),
        pytest.param(36, b"\x07", FrameError.BAD_LENGTH, id="a body one byte shorter"),
        pytest.param(36, b"\x09", FrameError.BAD_LENGTH, id="a body one byte longer"),
        pytest.param(39, b"\x80", FrameError.BAD_LENGTH, id="a body of 2 GiB"),
        pytest.param(8, b"\x00" * 8, FrameError.OTHER_CLUSTER, id="another cluster"),
    ],
)
def test_a_wrong_header_is_named_even_under_a_right_checksum(
    implementation: Codec, at: int, value: bytes, error: FrameError
) -> None:
    """The counters of dropped frames tell a wrong configuration from a bad cable."""
    frame = good_frame()
    frame[at : at + len(value)] = value
    assert implementation.decode_frame(sealed(frame), CLUSTER) is error


def test_a_newer_version_that_this_one_can_read_is_read(implementation: Codec) -> None:
    """Rolling upgrades: the newer writer says how old a reader may be."""
    frame = good_frame()
    frame[2] = 9
    assert implementation.decode_frame(sealed(frame), CLUSTER) == Frame(7, 1, 3, 1, 2, 64)


def test_checks_come_in_the_documented_order(implementation: Codec) -> None:
    """Each error is reported while all later ones are there too, down to the intact frame."""
    frame = good_frame()
    frame[8] ^= 1  # another cluster
    steps: list[tuple[int, bytes, FrameError]] = [
        (40, bytes(4), FrameError.BAD_CRC),
        (36, b"\xff", FrameError.BAD_LENGTH),
        (48, b"\x01", FrameError.BAD_HEADER),
        (3, b"\xff", FrameError.BAD_VERSION),
        (0, b"\x00", FrameError.BAD_MAGIC),
    ]
    assert implementation.decode_frame(sealed(frame), CLUSTER) is FrameError.OTHER_CLUSTER
    for at, value, error in steps:
        frame[at : at + len(value)] = value
        assert implementation.decode_frame(bytes(frame), CLUSTER) is error
    assert implementation.decode_frame(bytes(frame[:63]), CLUSTER) is FrameError.TOO_SHORT


@pytest.mark.parametrize("size", range(64))
def test_less_than_a_header_is_too_short(implementation: Codec, size: int) -> None:
    """The smallest frame is a bare header."""
    frame = bytes(good_frame())
    assert implementation.decode_frame(frame[:size], CLUSTER) is FrameError.TOO_SHORT
    bare = implementation.encode_frame(1, 0, CLUSTER, 1, 1, 0, b"")
    assert isinstance(implementation.decode_frame(bare, CLUSTER), Frame)


def test_every_single_flipped_bit_is_noticed() -> None:
    """CRC32C finds all errors of one bit, and a corrupted cluster id is not another cluster."""
    good = good_frame()
    for bit in range(8 * len(good)):
        frame = bytearray(good)
        frame[bit // 8] ^= 1 << bit % 8
        result = both_decode(bytes(frame))
        assert isinstance(result, FrameError), bit
        assert result is not FrameError.OTHER_CLUSTER, bit


@given(body=payloads, data=st.data())
def test_a_truncated_or_lengthened_frame_is_refused(body: bytes, data: st.DataObject) -> None:
    """Frames are carried whole; a carrier that cuts or glues them is noticed."""
    frame = twin.encode_frame(1, 0, CLUSTER, 1, 1, 0, body)
    size = data.draw(st.integers(0, len(frame) - 1))
    expected = FrameError.TOO_SHORT if size < 64 else FrameError.BAD_LENGTH
    assert both_decode(frame[:size]) is expected
    assert both_decode(frame + data.draw(st.binary(min_size=1))) is FrameError.BAD_LENGTH


@given(data=st.binary(max_size=200), keep=st.integers(0, 64))
def test_random_bytes_are_refused_alike(data: bytes, keep: int) -> None:
    """Garbage behind a right beginning gets through some of the checks, never through all."""
    assert isinstance(both_decode(bytes(good_frame()[:keep]) + b"\xff" + data), FrameError)


@pytest.mark.parametrize("cluster", [-1, 0, CLUSTER ^ 1, CLUSTER + 2**64])
def test_a_frame_of_another_cluster_is_refused(implementation: Codec, cluster: int) -> None:
    """Two clusters may share a network; and an id out of range is simply nobody's."""
    frame = bytes(good_frame())
    assert implementation.decode_frame(frame, cluster) is FrameError.OTHER_CLUSTER


def test_cluster_ids_are_of_the_documented_hash() -> None:
    """All nodes, of whatever version, must compute the same id."""
    assert codec.cluster_id("alpha") == 0x9D8B5A1DE9EA388E
    assert codec.cluster_id("größe") != codec.cluster_id("grosse")
    assert 0 <= codec.cluster_id("") < 2**64


# ------------------------------------------------------------------------- the choice of one


def test_both_sides_have_the_same_numbers() -> None:
    """The C side's constants are written in another file."""
    assert lib.PHX_WIRE_VERSION == codec.WIRE_VERSION
    assert lib.PHX_WIRE_VERSION_OLDEST == codec.WIRE_VERSION_OLDEST
    assert lib.PHX_FRAME_OK == 0
    for error in FrameError:
        if error is not FrameError.OTHER_CLUSTER:
            assert getattr(lib, f"PHX_FRAME_{error.name}") == error.value


def run_with(mode: str, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter with that PHALANX_NATIVE."""
    return subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PHALANX_NATIVE": mode},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


WITHOUT_EXTENSION = "import sys; sys.modules['phalanx._native._codec'] = None\n"
TELL = "from phalanx._native import codec; print(codec.IMPLEMENTATION, codec.crc32c.__module__)"


@pytest.mark.parametrize(
    ("mode", "before", "module"),
    [
        ("", "", "c phalanx._native.c_codec"),
        ("auto", "", "c phalanx._native.c_codec"),
        ("require", "", "c phalanx._native.c_codec"),
        ("twin", "", "twin phalanx._native.twin"),
        ("auto", WITHOUT_EXTENSION, "twin phalanx._native.twin"),
        ("twin", WITHOUT_EXTENSION, "twin phalanx._native.twin"),
    ],
)
def test_the_environment_chooses_the_implementation(mode: str, before: str, module: str) -> None:
    """Whoever has no compiler gets the twin; whoever doubts the extension can do without it."""
    result = run_with(mode, before + TELL)
    assert result.stdout.strip() == module, result.stderr


@pytest.mark.parametrize(
    ("mode", "before"), [("require", WITHOUT_EXTENSION), ("requrie", ""), ("0", "")]
)
def test_a_missing_extension_or_an_unknown_mode_is_an_import_error(mode: str, before: str) -> None:
    """A machine that is meant to run C must not become slow without a word."""
    result = run_with(mode, before + TELL)
    assert result.returncode != 0
    assert "ImportError" in result.stderr
    assert "PHALANX_NATIVE" in result.stderr
