"""What the batch codec costs; each figure that the design rests on is also a limit here.

    pytest bench/bench_codec.py --benchmark-only

Limits hold for the C codec on an idle core and are checked against the fastest round, which is
the one that nothing else disturbed. The twin is measured for comparison, without limits.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Protocol

import pytest

from phalanx._native import c_codec, twin
from phalanx._native.codec import Codec, Frame, cluster_id

UNPACK_NS_MAX = 120
"""A message of 64 bytes, in a batch of 1,000."""
PACK_NS_MAX = 60
CRC_GB_PER_S_MIN = 4.0
FRAME_NS_MAX = 1000
"""Encoding or decoding a frame of 300 bytes, the call from Python included."""

MESSAGES = 1000
MESSAGE_BYTES = 64
BODY_BYTES = 300 - 64
CRC_BYTES = 60 << 10
CLUSTER = cluster_id("bench")
HEADER = (1, 0, CLUSTER, 1_700_000_000_000_000_000, 1, 0)

_random = random.Random(64)
PAYLOADS = [_random.randbytes(MESSAGE_BYTES) for _ in range(MESSAGES)]
MIXED = [_random.randbytes(_random.randrange(130)) for _ in range(MESSAGES)]
BODY = _random.randbytes(BODY_BYTES)
BULK = _random.randbytes(CRC_BYTES)


class Benchmark(Protocol):
    """The part of pytest-benchmark's fixture that is used here; it comes without types."""

    extra_info: dict[str, Any]
    stats: Any

    def __call__(self, function: Callable[..., Any], /, *args: Any) -> Any: ...


both = pytest.mark.parametrize("codec", [c_codec, twin], ids=["c", "twin"])


def fastest_ns(benchmark: Benchmark, per: int = 1) -> float | None:
    """Nanoseconds of the fastest round, for each of `per` items; None if nothing is measured."""
    if benchmark.stats is None:  # --benchmark-disable: every function ran once
        return None
    figure = float(benchmark.stats.stats.min) * 1e9 / per
    benchmark.extra_info["ns_each"] = round(figure, 1)
    return figure


def check_at_most(figure: float | None, limit: float, codec: Codec) -> None:
    """Only the C codec has promised anything."""
    if figure is not None and codec is c_codec:
        assert figure <= limit


@both
@pytest.mark.parametrize("messages", [PAYLOADS, MIXED], ids=["1000x64", "1000x0to129"])
@pytest.mark.benchmark(group="pack 1,000 messages")
def test_pack_batch(benchmark: Benchmark, codec: Codec, messages: list[bytes]) -> None:
    """Packing costs at most 60 ns a message."""
    wire = benchmark(codec.pack_batch, messages)
    assert len(wire) == 4 + 4 * MESSAGES + sum(map(len, messages))
    check_at_most(fastest_ns(benchmark, MESSAGES), PACK_NS_MAX, codec)


@both
@pytest.mark.parametrize("messages", [PAYLOADS, MIXED], ids=["1000x64", "1000x0to129"])
@pytest.mark.benchmark(group="unpack 1,000 messages")
def test_unpack_batch(benchmark: Benchmark, codec: Codec, messages: list[bytes]) -> None:
    """Unpacking costs at most 120 ns a message."""
    assert benchmark(codec.unpack_batch, codec.pack_batch(messages)) == messages
    check_at_most(fastest_ns(benchmark, MESSAGES), UNPACK_NS_MAX, codec)


@both
@pytest.mark.benchmark(group="unpack 1 message")
def test_unpack_a_single_message(benchmark: Benchmark, codec: Codec) -> None:
    """Most batches of a quiet cluster hold one message."""
    assert benchmark(codec.unpack_batch, codec.pack_batch([BODY])) == [BODY]
    check_at_most(fastest_ns(benchmark), FRAME_NS_MAX, codec)


@pytest.mark.parametrize(
    ("crc32c", "limit_gb_per_s"),
    [
        pytest.param(c_codec.crc32c, CRC_GB_PER_S_MIN, id="c"),
        pytest.param(c_codec.crc32c_table, 0.0, id="c-table"),
        pytest.param(twin.crc32c, 0.0, id="twin"),
    ],
)
@pytest.mark.benchmark(group="crc32c of 60 KiB")
def test_crc32c(
    benchmark: Benchmark, crc32c: Callable[[bytes], int], limit_gb_per_s: float
) -> None:
    """The checksum of a full batch runs at 4 GB/s or more."""
    assert benchmark(crc32c, BULK) == c_codec.crc32c_table(BULK)
    figure = fastest_ns(benchmark, CRC_BYTES)
    if figure is not None:
        benchmark.extra_info["gb_per_s"] = round(1 / figure, 2)
        if c_codec.crc32c_is_hardware():
            assert 1 / figure >= limit_gb_per_s


@both
@pytest.mark.benchmark(group="encode 300 bytes")
def test_encode_frame(benchmark: Benchmark, codec: Codec) -> None:
    """Encoding a small frame costs at most a microsecond."""
    assert len(benchmark(codec.encode_frame, *HEADER, BODY)) == 300
    check_at_most(fastest_ns(benchmark), FRAME_NS_MAX, codec)


@both
@pytest.mark.benchmark(group="seal 300 bytes in 2 parts")
def test_seal_frame(benchmark: Benchmark, codec: Codec) -> None:
    """As a data frame is made: its own fields, then its batch."""
    start = codec.frame_start(*HEADER)
    frame = benchmark(codec.seal_frame, start, BODY[:24], BODY[24:])
    assert frame == codec.encode_frame(*HEADER, BODY)
    check_at_most(fastest_ns(benchmark), FRAME_NS_MAX, codec)


@both
@pytest.mark.benchmark(group="decode 300 bytes")
def test_decode_frame(benchmark: Benchmark, codec: Codec) -> None:
    """Decoding a small frame, its checksum included, costs at most a microsecond."""
    frame = codec.encode_frame(*HEADER, BODY)
    assert isinstance(benchmark(codec.decode_frame, frame, CLUSTER), Frame)
    check_at_most(fastest_ns(benchmark), FRAME_NS_MAX, codec)
