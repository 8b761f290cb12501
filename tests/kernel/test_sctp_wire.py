"""Our numbers of the SCTP sockets API against the header they were taken from."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

from phalanx.transport.drivers import sctp_wire as wire
from phalanx.transport.drivers.base import Stream

HEADER = Path("/usr/include/linux/sctp.h")
OTHER_NAMES = {
    "CMSG_SNDINFO": "SCTP_SNDINFO",
    "CMSG_RCVINFO": "SCTP_RCVINFO",
    "CMSG_PRINFO": "SCTP_PRINFO",
    "SCTP_PATH_INACTIVE": "SCTP_INACTIVE",
    "SCTP_PATH_POTENTIALLY_FAILED": "SCTP_PF",
    "SCTP_PATH_ACTIVE": "SCTP_ACTIVE",
    "SCTP_PATH_UNCONFIRMED": "SCTP_UNCONFIRMED",
}
NOT_PUBLIC = {"SCTP_PF_EXPOSE_ENABLE"}
LAYOUTS = {
    "sctp_rtoinfo": wire.RTOINFO.size,
    "sctp_assocparams": wire.ASSOCPARAMS.size,
    "sctp_initmsg": wire.INITMSG.size,
    "sctp_sack_info": wire.SACK_INFO.size,
    "sctp_assoc_value": wire.ASSOC_VALUE.size,
    "sctp_stream_value": wire.STREAM_VALUE.size,
    "sctp_event": wire.EVENT.size,
    "sctp_paddrparams": wire.PADDRPARAMS.size,
    "sctp_prim": wire.PRIM.size,
    "sctp_paddrinfo": wire.PADDRINFO.size,
    "sctp_paddrthlds": wire.PADDRTHLDS.size,
    "sctp_paddrthlds_v2": wire.PADDRTHLDS_V2.size,
    "sctp_udpencaps": wire.UDPENCAPS.size,
    "sctp_sndinfo": wire.SNDINFO.size,
    "sctp_prinfo": wire.PRINFO.size,
    "sctp_rcvinfo": wire.RCVINFO_BYTES,
}
OFFSETS = {
    ("sctp_paddrthlds_v2", "spt_pathcpthld"): wire.PADDRTHLDS_V2,
    ("sctp_paddrthlds", "spt_pathpfthld"): wire.PADDRTHLDS,
    ("sctp_udpencaps", "sue_port"): wire.UDPENCAPS,
    ("sctp_paddrparams", "spp_flags"): wire.PADDRPARAMS,
    ("sctp_paddrinfo", "spinfo_mtu"): wire.PADDRINFO,
    ("sctp_sndinfo", "snd_assoc_id"): wire.SNDINFO,
    ("sctp_prinfo", "pr_value"): wire.PRINFO,
}
"""A field of each structure with padding, and the layout in which to look for it."""
PLACES = {"spp_flags": -3}
"""Which item of the layout the field is; the last one unless it is said here."""


def constants() -> dict[str, int]:
    """Every constant of ours by its name in the header."""
    found: dict[str, int] = {}
    for name, value in vars(wire).items():
        theirs = re.match(r"(SCTP|CMSG|SPP|MSG)_[A-Z0-9_]+$", name) and name not in NOT_PUBLIC
        if theirs and isinstance(value, int):
            found[OTHER_NAMES.get(name, name)] = value
    return found


def offset(layout: struct.Struct, place: int) -> int:
    """Where an item of a layout begins, found by looking where its bytes land."""
    sample = layout.unpack(bytes(layout.size))
    values = [b"" if isinstance(item, bytes) else 0 for item in sample]
    values[place] = b"\xff" if isinstance(values[place], bytes) else 1
    return next(at for at, byte in enumerate(layout.pack(*values)) if byte)


def test_constants_and_layouts_are_those_of_the_header(tmp_path: Path) -> None:
    """A wrong number here sets some other option, silently."""
    assert len(constants()) > 40
    lines = [f'printf("{name} %d\\n", (int)({name}));' for name in constants()]
    lines += [f'printf("{name} %zu\\n", sizeof(struct {name}));' for name in LAYOUTS]
    lines += [
        f'printf("{struct_name}.{field} %zu\\n", offsetof(struct {struct_name}, {field}));'
        for struct_name, field in OFFSETS
    ]
    source = tmp_path / "numbers.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n#include <sys/socket.h>\n"
        f"#include <linux/sctp.h>\nint main(void) {{\n{chr(10).join(lines)}\nreturn 0; }}\n"
    )
    program = tmp_path / "numbers"
    subprocess.run(["cc", "-o", str(program), str(source)], check=True)
    output = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    theirs = {name: int(value) for name, value in (line.split() for line in output.splitlines())}
    ours: dict[str, int] = {**constants(), **LAYOUTS}
    for (struct_name, field), layout in OFFSETS.items():
        ours[f"{struct_name}.{field}"] = offset(layout, PLACES.get(field, -1))
    assert ours == theirs


@pytest.mark.parametrize("address", ["10.71.0.1", "fd00::71:1"])
def test_addresses_survive_packing(address: str) -> None:
    """The kernel gets them and gives them back in the same form."""
    packed = wire.pack_address(address, 5405)
    assert wire.unpack_address(packed.ljust(128, b"\0")) == address


def test_an_ipv4_mapped_address_is_read_as_ipv4() -> None:
    """A socket for IPv6 reports the rails with IPv4 in this form; rails know only the plain one."""
    packed = wire.pack_address("::ffff:10.71.0.1", 5405)
    assert wire.unpack_address(packed) == "10.71.0.1"


def test_the_tag_of_a_probe_is_its_rail_s_whatever_the_stream() -> None:
    """A receiver looks at the rail without the stream, and 0 is no probe at all."""
    for rail in ("a", "b", "storage"):
        for stream in Stream:
            tag = wire.probe_tag(rail, stream)
            assert tag & wire.PROBE_STREAM_BITS == stream
            assert tag & ~wire.PROBE_STREAM_BITS == wire.probe_tag(rail) != 0


@pytest.mark.parametrize("size", range(21))
def test_a_short_notification_is_ignored(size: int) -> None:
    """What the kernel hands over is bounds-checked like everything else."""
    whole = struct.pack("=HHIHHHHi", wire.SCTP_ASSOC_CHANGE, 0, 20, wire.SCTP_COMM_UP, 0, 5, 5, 0)
    expected = wire.AssociationChange(wire.SCTP_COMM_UP, 0, 5, 5, False) if size == 20 else None
    assert wire.unpack_notification(whole[:size]) == expected
