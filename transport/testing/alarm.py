"""A descriptor that wakes its watcher at a time: timerfd, which `os` offers from 3.13 on."""

from __future__ import annotations

import ctypes
import os
import time

AT_ONCE_NS = 1
"""A time that is always past."""
_TIMER_ABSOLUTE = 1  # TFD_TIMER_ABSTIME of <sys/timerfd.h>
_libc = ctypes.CDLL(None, use_errno=True)


class Alarm:
    """A timer of the kernel on the monotonic clock; `fd` is readable from the time set on."""

    def __init__(self) -> None:
        # TFD_NONBLOCK and TFD_CLOEXEC are these flags of open(2) by definition.
        self.fd = int(
            _libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC),
        )
        if self.fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._at_ns = 0

    def set(self, at_ns: int) -> None:
        """Be readable from that monotonic time on; never, if it is 0."""
        if at_ns == self._at_ns:
            return
        self._at_ns = at_ns
        seconds, nanoseconds = divmod(at_ns, 1_000_000_000)
        # struct itimerspec: the interval, then the time of expiry.
        setting = (ctypes.c_long * 4)(0, 0, seconds, nanoseconds)
        failed = _libc.timerfd_settime(self.fd, _TIMER_ABSOLUTE, setting, None)
        assert failed == 0, "the descriptor is a timer and the time is normal"

    def close(self) -> None:
        """Free the descriptor."""
        os.close(self.fd)
