"""Ray for as long as a run takes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from backend.errors import ConfigError, Unavailable


@contextmanager
def started(address: str | None) -> Iterator[Any]:
    """Ray, started unless it runs already, with this program's own handling of signals.

    Args:
        address: of a cluster; None for this machine.

    Raises:
        ConfigError: Ray is not installed, or does not start.
        Unavailable: it ends meanwhile.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray gives its workers the lowest priority; here they get the usual one. A cluster that runs
    # already keeps its own.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "--engine ray: Ray is not installed; pip install -c constraints.txt '.[ray]'"
        ) from None
    quiet: dict[str, Any] = {
        "logging_level": "ERROR",
        "log_to_driver": False,
        "include_dashboard": False,
    }
    is_new = not ray.is_initialized()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if is_new:
            try:
                ray.init(address=address or "local", **({} if address else quiet))
            except (ValueError, RuntimeError, ConnectionError) as error:
                raise ConfigError(f"--ray-address {address}: {str(error)[:200]}") from None
        if threading.current_thread() is threading.main_thread():
            # Ray ends the program on a signal; ours finishes what is in flight.
            for number, handler in handlers.items():
                signal.signal(number, handler)
        yield ray
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise Unavailable(f"Ray: {last_line(error)}") from None
    finally:
        if is_new:
            ray.shutdown()


def last_line(error: Exception) -> str:
    """The last line of an error of Ray's, which says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
