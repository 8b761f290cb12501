"""Tests with the marker `kernel` run on a kernel that has SCTP, wherever this pytest runs.

The pytest that the user starts hands all its `kernel` tests to one other pytest, in the guest
(or in namespaces of this machine, when its kernel has SCTP), and shows its reports as its own:
names, durations, failures and skips are the same as if the tests had run here.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from .guest import GuestError, Outcome, Runner, kernel_has_sctp, open_runner
from .image import ImageError, tool

INSIDE = "PHALANX_KERNEL_INSIDE"
"""Set in the inner pytest."""
MARK = "@@phalanx-report "
"""Begins the report on a line that carries one."""
TEST_LIMIT_S = 90.0
"""A test that takes longer is taken for hung; one second here is up to twenty in the guest."""
START_LIMIT_S = 120.0
"""For the inner pytest to start and collect."""


class Inside:
    """In the inner pytest: writes each report as one line."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        terminal: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        terminal.write_line("\n" + MARK + json.dumps(data))


class Job:
    """One run of the inner pytest, whose reports can be read while it runs."""

    def __init__(self, runner: Runner, config: pytest.Config, nodes: list[str]) -> None:
        self._config = config
        self._reports: queue.SimpleQueue[pytest.TestReport | None] = queue.SimpleQueue()
        self._rest = ""
        self.trouble = ""
        """Why it gave no report for a test: its last words."""
        self._thread = threading.Thread(target=self._run, args=(runner, nodes), daemon=True)
        self._thread.start()

    def _run(self, runner: Runner, nodes: list[str]) -> None:
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        # The traceback of a test that hangs comes to us, which blame that test and start a new
        # inner pytest for the rest.
        argv += ["-o", f"faulthandler_timeout={TEST_LIMIT_S:g}"]
        argv += ["-o", "faulthandler_exit_on_timeout=true", *nodes]
        outcome: Outcome | None = None
        try:
            outcome = runner.run(
                argv,
                limit_s=START_LIMIT_S + TEST_LIMIT_S * len(nodes),
                cwd=self._config.rootpath,
                env={INSIDE: "1", "PYTHONDONTWRITEBYTECODE": "1"},
                on_output=self._parse,
            )
        except GuestError as error:
            self.trouble = str(error)
        if outcome is not None:
            words = [line for line in outcome.output.splitlines() if MARK not in line]
            self.trouble = f"exit status {outcome.status}\n" + "\n".join(words[-120:])
        self._reports.put(None)

    def _parse(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            # The progress dots of the inner pytest may stand before it on the line.
            _, mark, report = line.partition(MARK)
            if mark:
                data = json.loads(report)
                self._reports.put(
                    self._config.hook.pytest_report_from_serializable(
                        config=self._config, data=data
                    )
                )

    def join(self) -> None:
        """Wait until the inner pytest has said its last words; it has no tests left by then."""
        self._thread.join(START_LIMIT_S)

    def next_report(self) -> pytest.TestReport | None:
        """The next report; None once the inner pytest has ended."""
        return self._reports.get()


class Outside:
    """In the outer pytest: runs the `kernel` tests on the runner, which starts when needed."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._runner: Runner | None = None
        self._missing = ""
        self._job: Job | None = None
        self._figures: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if item.get_closest_marker("kernel") is None or not _possible():
            # In the second case the marker itself turns the test away, and says what is missing.
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._reports(item):
            if report.when == "call":
                self._figures += [f"{name}: {value}" for name, value in report.user_properties]
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _reports(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        """The reports of one test, in the order set-up, call, tear-down."""
        if self._job is None:
            unusable = self._start(item)
            if unusable is not None:
                yield unusable
                return
        assert self._job is not None, "the job was started"
        while (report := self._job.next_report()) is not None:
            assert report.nodeid == item.nodeid, "both run the same tests in the same order"
            yield report
            if report.when == "teardown":
                return
        trouble = self._job.trouble
        self._job = None
        yield _report(item, "failed", f"the test ended the pytest it ran in: {trouble}")

    def _start(self, item: pytest.Item) -> pytest.TestReport | None:
        """Start the inner pytest for this and all later tests; a report if that cannot be."""
        if self._runner is None and not self._missing:
            try:
                self._runner = open_runner()
            except (ImageError, GuestError) as error:
                self._missing = str(error)
        if self._runner is None:
            return _report(item, "failed", f"no kernel with SCTP: {self._missing}")
        items = item.session.items
        nodes = [
            other.nodeid
            for other in items[items.index(item) :]
            if other.get_closest_marker("kernel") is not None
        ]
        self._job = Job(self._runner, self._config, nodes)
        return None

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._runner is not None:
            terminalreporter.section("kernel SCTP")
            terminalreporter.write_line(f"ran on {self._runner.description}")
            for figure in self._figures:
                terminalreporter.write_line(figure)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._runner is None:
            return
        if self._job is not None and not session.shouldstop:
            self._job.join()
        self._runner.close()
        if self._job is not None:
            self._job.join()


def _possible() -> bool:
    """Whether this machine has what a kernel with SCTP takes, or is not told to lack it."""
    if "kernel" in os.environ.get("PHALANX_MISSING", "").split(","):
        return False
    try:
        if not kernel_has_sctp():
            tool("qemu-system-x86_64", "qemu-system-x86")
            tool("depmod", "kmod")
            tool("apt-get", "apt")
    except ImageError:
        return False
    return True


def _report(item: pytest.Item, outcome: Any, why: str) -> pytest.TestReport:
    """A report for a test that could not give its own."""
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords={},
        outcome=outcome,
        longrepr=why,
        when="call",
    )


def register(config: pytest.Config) -> None:
    """Have this pytest treat the marker `kernel` as described above; idempotent."""
    if config.pluginmanager.has_plugin("phalanx-kernel"):
        return
    plugin = Inside(config) if os.environ.get(INSIDE) else Outside(config)
    config.pluginmanager.register(plugin, "phalanx-kernel")
