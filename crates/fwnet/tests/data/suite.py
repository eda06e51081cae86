"""Runs CPython's own tests of sockets and of what is built on them, without VSOCK (which talks to the hypervisor), and
prints as JSON how each test ended: ok, skipped, failure, error. Arguments, if any, name the tests to run."""

import json
import os
import sys
import tempfile
import unittest

from test import support


class Outcomes(unittest.TestResult):
    """Every test's ending by its name."""

    def __init__(self):
        super().__init__()
        self.of = {}
        self.why = {}

    def addSuccess(self, test):
        self.of.setdefault(test.id(), "ok")

    def addSkip(self, test, reason):
        self.of[test.id()] = "skipped"

    def addFailure(self, test, trace):
        self.of[test.id()] = "failure"
        self.why[test.id()] = self._exc_info_to_string(trace, test)

    def addError(self, test, trace):
        self.of[test.id()] = "error"
        self.why[test.id()] = self._exc_info_to_string(trace, test)

    def addExpectedFailure(self, test, trace):
        self.of[test.id()] = "expected failure"

    def addUnexpectedSuccess(self, test):
        self.of[test.id()] = "unexpected success"

    def addSubTest(self, test, subtest, trace):
        if trace is not None:
            self.of[test.id()] = "failure"
            self.why[subtest.id()] = self._exc_info_to_string(trace, test)


def tests(suite):
    for entry in suite:
        if isinstance(entry, unittest.TestSuite):
            yield from tests(entry)
        elif "VSOCK" not in entry.id() and (not wanted or entry.id() in wanted):
            yield entry


# The modules; of test_asyncio those that open sockets of the system.
JUDGES = [
    "test_socket",
    "test_socketserver",
    "test_httplib",
    "test_ftplib",
    "test_asyncio.test_events",
    "test_asyncio.test_server",
    "test_asyncio.test_sock_lowlevel",
    "test_asyncio.test_streams",
    "test_asyncio.test_unix_events",
]


def loaded():
    """A suite of each module's, for what classes and modules set up."""
    for name in JUDGES:
        if not wanted or any(test.startswith(f"test.{name}.") for test in wanted):
            # As `python -m test` has it where no resource is asked for: nothing beyond this machine is tried.
            # test_socketserver tries nothing beyond it either, and wants that word.
            support.use_resources = ["network"] if name == "test_socketserver" else []
            yield unittest.defaultTestLoader.loadTestsFromName(f"test.{name}")


wanted = set(sys.argv[1:])
with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    # What a test prints is not what this program prints.
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    outcomes = Outcomes()
    for judge in loaded():
        unittest.TestSuite(tests(judge)).run(outcomes)
    os.chdir("/")
json.dump({"outcomes": outcomes.of, "why": outcomes.why}, report)
report.close()
