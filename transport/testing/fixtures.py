"""A pytest plugin with hosts and rails for failover tests.

Load it in the top-level conftest.py: `pytest_plugins = ["phalanx.transport.testing.fixtures"]`.
Then a test that asks for `lab` gets three hosts on two rails, all its own:

    def test_traffic_moves_to_the_other_rail(lab: Lab) -> None:
        lab.drop("a", "alpha")

`make_lab(hosts=5, rails=("a",))` builds others. Such tests carry the marker `netns`. If any is
selected and pytest does not run as root, it starts itself again in a user namespace; where that
is not allowed the tests *fail* and say what to do: they are never skipped silently.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

import pytest

from .lab import Lab, LabUnavailable, capability, ensure_privileges
from .lab_privileges import privileged

_FIXTURES = frozenset({"lab", "make_lab"})


class MakeLab(Protocol):
    """Builds a lab that is taken down when the test ends; takes the arguments of `Lab`."""

    def __call__(
        self,
        hosts: int = 3,
        rails: tuple[str, ...] = ("a", "b"),
        *,
        mtu: int = 1500,
        ipv6: bool = False,
        offload: bool = True,
        filters: str = "auto",
    ) -> Lab: ...


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "netns: needs network namespaces (root, or unprivileged user namespaces)"
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a lab, and see to it that they can."""
    for item in items:
        if _FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.netns)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start pytest again where labs can be built, if a selected test needs one."""
    config = session.config
    if config.option.collectonly or hasattr(config, "workerinput") or privileged():
        return
    if not any(item.get_closest_marker("netns") for item in session.items):
        return
    if capability() != "user namespaces":
        return  # each test says so when it fails
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line("phalanx: starting pytest again in a user namespace")
    capture = config.pluginmanager.get_plugin("capturemanager")
    if capture is not None:
        # Give the new pytest the real standard output, not the file that captures ours.
        capture.stop_global_capturing()
    with contextlib.suppress(LabUnavailable):
        ensure_privileges()


@pytest.fixture
def make_lab() -> Iterator[MakeLab]:
    """A function that builds labs; they go down when the test ends."""
    with contextlib.ExitStack() as stack:

        def build(
            hosts: int = 3,
            rails: tuple[str, ...] = ("a", "b"),
            *,
            mtu: int = 1500,
            ipv6: bool = False,
            offload: bool = True,
            filters: str = "auto",
        ) -> Lab:
            lab = Lab(hosts, rails, mtu=mtu, ipv6=ipv6, offload=offload, filters=filters)
            try:
                return stack.enter_context(lab)
            except LabUnavailable as error:
                pytest.fail(f"this test needs hosts and rails: {error}", pytrace=False)

        yield build


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    """Three hosts (alpha, bravo, charlie) on two rails (a, b)."""
    return make_lab()
