"""Capabilities that the driver tests need of the machine."""

from __future__ import annotations

import functools

import pytest

from .netns_bench import why_no_namespaces


@functools.cache
def _why_not(capability: str) -> str:
    if capability == "netns":
        return why_no_namespaces()
    raise ValueError(f"unknown capability {capability!r}")


def require(capability: str) -> None:
    """Fail with a clear message if this machine lacks what a test needs; never skip silently."""
    reason = _why_not(capability)
    if reason:
        pytest.fail(f"this machine lacks {capability}: {reason}", pytrace=False)
