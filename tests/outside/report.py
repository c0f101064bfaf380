"""Counting of checks, shared by all outside proofs: `N passed, N failed`, and the exit code."""

import sys
import time

DETAILS_SHOWN = 10
DETAIL_CHARACTERS = 600


class Report:
    """Counts named checks; a failed one is printed with the first of its details."""

    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.started = time.monotonic()

    def check(self, name, ok, *details):
        """One check. `details` are shown when it fails."""
        if ok:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED  {name}", flush=True)
            for detail in details[:DETAILS_SHOWN]:
                print(f"        {str(detail)[:DETAIL_CHARACTERS]}", flush=True)
            if len(details) > DETAILS_SHOWN:
                print(f"        … and {len(details) - DETAILS_SHOWN} more", flush=True)
        return bool(ok)

    def equal(self, name, found, expected):
        return self.check(name, found == expected, f"expected {expected!r}", f"found    {found!r}")

    def none(self, name, offenders):
        """A check that passes when nothing offends; the offenders are its details."""
        offenders = list(offenders)
        return self.check(name, not offenders, *offenders)

    def say(self, text):
        print(f"{time.monotonic() - self.started:6.1f}s {text}", flush=True)

    def end(self):
        """Prints the last line and returns the exit code."""
        sys.stderr.flush()
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed else 0
