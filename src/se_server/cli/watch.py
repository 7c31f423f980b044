"""`se-server --reload`: a separate process that watches the files of the APP and sends SIGHUP to the supervisor.

It is not a thread of the supervisor: a process that forks should have no threads.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from se_server.errors import ConfigError
from se_server.observe.logs import setup_logging
from se_server.server.config.scripts import Script
from se_server.server.shared.logfile import LogFile

logger = logging.getLogger("se_server.watch")

LOOK_S = 0.5
"""Interval at which the watcher checks that the supervisor is alive."""
NAMED_FILES = 3


@contextmanager
def watching(
    apps: Sequence[str], more: Sequence[str], level: str, form: str, log_file: str | None = None
) -> Iterator[None]:
    """Watch the files of APPs and of their options until the end of the block.

    Args:
        apps: the APPs as on the command line.
        more: further files, such as the TOML file.
        level, form: the level and the format of the log.
        log_file: the path of the log file; None logs to stderr.

    Raises:
        ConfigError: there is no APP to watch, or the package watchfiles is missing.
    """
    check_watch(apps)
    scripts = [(app, Script.of(app)) for app in apps]
    folders = [str(folder_of(app if script is None else script.watched)) for app, script in scripts]
    places = [*dict.fromkeys(folders), *map(os.path.abspath, more)]
    watcher = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, str(os.getpid()), level, form, log_file or "", *places]
    )
    try:
        yield
    finally:
        watcher.terminate()
        watcher.wait()


def check_watch(apps: Sequence[str]) -> None:
    """Check that the files of APPs can be watched.

    Raises:
        ConfigError: there is no APP to watch, or the package watchfiles is missing.
    """
    if not apps:
        raise ConfigError("--reload watches the files of an APP: name one, as in se-server agent.py --reload")
    if importlib.util.find_spec("watchfiles") is None:
        raise ConfigError("--reload needs the package watchfiles: pip install watchfiles")


def folder_of(app: str) -> Path:
    """Return the folder of an APP: that of its file or of its top package. User code is not run."""
    place = app.rpartition(":")[0] if ".py:" in app else app
    if place.endswith(".py"):
        return Path(place).resolve().parent
    top = place.partition(":")[0].partition(".")[0]
    for entry in ["", *sys.path]:
        base = Path(entry or os.getcwd(), top)
        if base.is_dir():
            return base.resolve()
        if base.with_suffix(".py").is_file():
            return base.resolve().parent
    return Path.cwd()


def watch(supervisor: int, places: Sequence[str], log_file: LogFile | None) -> None:
    """Send SIGHUP after every change, until the supervisor is gone."""
    from watchfiles import PythonFilter
    from watchfiles import watch as changes_of

    there = [place for place in places if os.path.exists(place)]
    has_logged = False
    found = changes_of(
        *there,
        watch_filter=PythonFilter(extra_extensions=(".toml",)),
        rust_timeout=int(LOOK_S * 1000),
        yield_on_timeout=True,
        raise_interrupt=False,
    )
    for changes in found:
        if not has_logged:
            has_logged = True
            logger.info("watching %s for changes", ", ".join(there))
        if os.getppid() != supervisor:
            return
        if log_file is not None and log_file.has_moved():
            log_file.reopen()
        if changes:
            names = sorted({os.path.relpath(path) for _, path in changes})
            more = f" and {len(names) - NAMED_FILES} more" if len(names) > NAMED_FILES else ""
            logger.info("changed: %s%s", ", ".join(names[:NAMED_FILES]), more)
            os.kill(supervisor, signal.SIGHUP)


def main() -> None:
    """Run the watcher process."""
    # Ctrl+C in a terminal reaches the whole process group; the supervisor ends this process.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    supervisor, level, form, log_file, *places = sys.argv[1:]
    setup_logging(level, form)
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    watch(int(supervisor), places, LogFile(log_file) if log_file else None)


if __name__ == "__main__":
    main()
