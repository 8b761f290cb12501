"""Two hosts on two rails, on the kernel that `remote.py` sends these tests to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import lab
from .lab import LEFT, RIGHT, End, kernel_end


@pytest.fixture(scope="session")
def hosts() -> Iterator[None]:
    """Two hosts on two rails, for all tests."""
    lab.build()
    yield
    lab.demolish()


@pytest.fixture
def left(hosts: None) -> Iterator[End]:
    """An open driver on the host that dials."""
    del hosts
    end = kernel_end(LEFT)
    yield end
    end.driver.close()


@pytest.fixture
def right(hosts: None) -> Iterator[End]:
    """An open driver on the host that is dialled."""
    del hosts
    end = kernel_end(RIGHT)
    yield end
    end.driver.close()


@pytest.fixture
def healed() -> Iterator[None]:
    """Undoes at the end whatever the test has done to the rails."""
    yield
    lab.sh(lab.heal_commands())
