"""A run of the kernel tests on another target says how many kernels it compared."""

import os


def pytest_terminal_summary(terminalreporter):
    """One line an op; see `running.py`."""
    from tests.backends.running import COMPARED

    if target := os.environ.get("NETWRIGHT_TEST_TARGET"):
        for (name, op), count in sorted(COMPARED.items()):
            if name == target:
                terminalreporter.write_line(f"{name}: {op} {count}")
