"""Prints the real-time factors below the table of pytest-benchmark."""


def pytest_terminal_summary(terminalreporter, config):
    session = getattr(config, "_benchmarksession", None)
    rows = [b for b in session.benchmarks if "realtime_factor" in b.extra_info] if session else []
    if rows:
        terminalreporter.section("real-time factors (seconds of audio per second)")
    for row in rows:
        threads = row.extra_info["threads"]
        terminalreporter.write_line(f"{row.name:>36}  {row.extra_info['realtime_factor']:>8.1f}x  {threads} threads")
