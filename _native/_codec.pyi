"""The extension that cffi makes of codec.c; codec_api.h says what the functions do."""

from cffi import FFI

class _Lib:
    PHX_WIRE_VERSION: int
    PHX_WIRE_VERSION_OLDEST: int
    PHX_FRAME_OK: int
    PHX_FRAME_TOO_SHORT: int
    PHX_FRAME_BAD_MAGIC: int
    PHX_FRAME_BAD_VERSION: int
    PHX_FRAME_BAD_HEADER: int
    PHX_FRAME_BAD_LENGTH: int
    PHX_FRAME_BAD_CRC: int

    def phx_crc32c(self, value: int, data: bytes, n: int, /) -> int: ...
    def phx_crc32c_table(self, value: int, data: bytes, n: int, /) -> int: ...
    def phx_crc32c_is_hardware(self) -> int: ...
    def phx_frame_crc(self, start: bytes, head: bytes, n: int, rest: bytes, m: int, /) -> int: ...
    def phx_frame_check(self, frame: bytes, n: int, /) -> int: ...
    def phx_batch_count(self, data: bytes, n: int, offset: int, /) -> int: ...

ffi: FFI
lib: _Lib
