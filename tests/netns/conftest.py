"""Standing clusters of nodes for the tests that leave them whole, and the list of figures."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from phalanx.transport.testing.lab import Lab, LabUnavailable

from .harness import Fleet

Figure = Callable[[str, float, float], None]
"""`figure(name, value, limit)`: note what was measured, then hold it to its limit."""

_figures: list[str] = []


class Standing:
    """The lab and the cluster that tests share."""

    def __init__(self, lab: Lab, folder: Path, hosts: int = 3, **settings: object) -> None:
        self._settings = settings
        """Of the cluster file."""
        self._lab = lab
        self._folder = folder
        self._hosts = hosts
        self._fleet: Fleet | None = None
        self._built = 0

    def whole(self) -> Fleet:
        """The cluster, healed, or a new one where the last test left a wreck."""
        if self._fleet is not None:
            try:
                self._fleet.make_whole()
            except AssertionError:
                _figures.append(f"cluster {self._built} could not be healed: building another")
                self.end()
            else:
                return self._fleet
        self._built += 1
        folder = self._folder / f"cluster-{self._built}"
        fleet = self._fleet = Fleet(self._lab, folder, self._hosts, **self._settings)
        fleet.make_whole()
        return fleet

    def end(self) -> None:
        """Kill the processes."""
        if self._fleet is not None:
            self._fleet.end()
            self._fleet = None


@contextmanager
def stand(
    folder: Path, *, lab_hosts: int, hosts: int, offload: bool = True, **settings: object
) -> Generator[Standing, None, None]:
    """A lab of so many hosts on two rails, of which the first are a cluster."""
    lab = Lab(lab_hosts, ("a", "b"), offload=offload)
    try:
        lab.up()
    except LabUnavailable as error:
        pytest.fail(f"these tests need hosts and rails: {error}", pytrace=False)
    standing = Standing(lab, folder, hosts, **settings)
    try:
        yield standing
    finally:
        standing.end()
        lab.down()


@pytest.fixture(scope="session")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """Four hosts on two rails; the first three are a cluster, the fourth is a stranger."""
    with stand(tmp_path_factory.mktemp("standing"), lab_hosts=4, hosts=3) as standing:
        yield standing


@pytest.fixture(scope="module")
def standing_five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """A cluster of five: two may fail at once."""
    with stand(tmp_path_factory.mktemp("standing-five"), lab_hosts=5, hosts=5) as standing:
        yield standing


@pytest.fixture
def trio(standing: Standing) -> Iterator[Fleet]:
    """Three nodes (alpha, bravo, charlie) in one view; all paths up; nothing is being sent.

    What happens in the test is judged by the checkers of all guarantees.
    """
    fleet = standing.whole()
    yield fleet
    fleet.check()


@pytest.fixture
def five(standing_five: Standing) -> Iterator[Fleet]:
    """Five nodes (alpha to echo) in one view, like `trio`."""
    fleet = standing_five.whole()
    yield fleet
    fleet.check()


@pytest.fixture
def figure() -> Figure:
    """Notes a measured value for the closing summary, and asserts that it is within its limit."""

    def note(name: str, value: float, limit: float) -> None:
        _figures.append(f"{name}: {value:.1f} (limit {limit:g})")
        assert value <= limit, f"{name}: {value:.1f}, the limit is {limit:g}"

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures, whether the tests passed or not."""
    if _figures:
        terminalreporter.section("figures of the clusters on real rails")
        for line in _figures:
            terminalreporter.write_line(line)
