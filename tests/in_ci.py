"""In CI no test is left out for want of a package: a skip that says so is a failure there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

__all__ = ["pytest_make_collect_report", "pytest_runtest_makereport"]

#: What a skip says where a package is missing. A GPU, its driver and its packages are nothing that CI has to have; nor
#: is ultralytics, whose packages replace torch by a build with gigabytes of CUDA.
_MISSING = re.compile(r"apt-get install|Debian's|not installed|not compiled|could not import|No module named")
_OPTIONAL = re.compile(r"cuda|tensorrt|GPU|ultralytics", re.IGNORECASE)


def _fail_in_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not (os.environ.get("CI") and report.skipped and isinstance(report.longrepr, tuple)):
        return
    reason = str(report.longrepr[2])
    if hasattr(report, "wasxfail") or not _MISSING.search(reason) or _OPTIONAL.search(reason):
        return
    report.outcome = "failed"
    report.longrepr = f"left out, and in CI (CI is set) nothing may be: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A test that skips."""
    report = yield
    _fail_in_ci(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """A file that skips as a whole (importorskip)."""
    report = yield
    _fail_in_ci(report)
    return report
