"""Label Studio and the backend as processes on free ports of the loopback address."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx

from backend.demo.run import DEMO_MARGIN, DEMO_MIN_PART
from backend.errors import Unavailable

# of a server on this machine's loopback address
USER = "demo@example.com"
PASSWORD = "masks-for-everyone"  # noqa: S105 - of a Label Studio on this machine only
TOKEN = "0123456789abcdef0123456789abcdef01234567"  # noqa: S105 - likewise
BOOT_S = 400.0  # an empty data folder takes 100 s on two cores


def free_port() -> int:
    """A port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def usable_port(wanted: int) -> int:
    """This port, or a free one where somebody listens on it already.

    Label Studio itself would move on without a word.
    """
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # a server that ended a moment ago is not in the way
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            port = free_port()
            sys.stdout.write(f"Port {wanted} is taken, using {port}.\n")
            return port
    return wanted


def label_studio_environment(data: Path, url: str) -> dict[str, str]:
    """The environment of a private Label Studio.

    Args:
        data: its folder for database and uploads.
        url: where it will listen; it tells backends this address.
    """
    settings = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "LABEL_STUDIO_USERNAME": USER,
        "LABEL_STUDIO_PASSWORD": PASSWORD,
        "LABEL_STUDIO_USER_TOKEN": TOKEN,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",  # read on the very first start only
        "LABEL_STUDIO_HOST": url,
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "SENTRY_RATE": "0",
    }
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LABEL_STUDIO_", "PYTHON", "DJANGO_"))
    }
    return {**kept, **settings}


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, timeout_s: float) -> None:
    """Wait until a server answers.

    Raises:
        Unavailable: it ended or did not answer in time; the end of its log is told.
    """
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=2, trust_env=False).status_code == 200:
                return
        time.sleep(0.5)
    tail = log.read_text(errors="replace")[-1500:] if log.is_file() else ""
    raise Unavailable(f"{url}: no answer; the end of {log}:\n{tail}")


@contextlib.contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], log: Path, keep: Sequence[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a process group of its own that is ended with the block.

    It holds the files in ``keep`` open as long as it lives.
    """
    with log.open("ab") as stream:
        process = subprocess.Popen(  # noqa: S603 - our own command line
            list(command),
            env=dict(environment),
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            pass_fds=keep,
        )
    try:
        yield process
    finally:
        for number, wait_s in ((signal.SIGTERM, 20), (signal.SIGKILL, 5)):
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(wait_s)


@contextlib.contextmanager
def label_studio(program: Path, data: Path, port: int, keep: Sequence[int] = ()) -> Iterator[str]:
    """A running Label Studio; gives its URL.

    Args:
        program: the ``label-studio`` script of its environment.
        data: kept between runs.
        port: to listen on.
        keep: open files it shall hold, such as a lock.

    Raises:
        Unavailable: it did not start.
    """
    data.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{port}"
    command = [
        str(program),
        "start",
        "--no-browser",
        "--internal-host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with running(
        command, label_studio_environment(data, url), data / "label-studio.log", keep
    ) as process:
        wait_for(f"{url}/health", process, data / "label-studio.log", BOOT_S)
        yield url


@contextlib.contextmanager
def backend(
    label_studio_url: str, port: int, log: Path, token: str = TOKEN, options: Sequence[str] = ()
) -> Iterator[str]:
    """A running backend on the embedded models; gives its URL."""
    url = f"http://127.0.0.1:{port}"
    command = [
        sys.executable,
        "-m",
        "backend",
        "serve",
        "--port",
        str(port),
        "--detector",
        "demo",
        "--segmenter",
        "demo",
        "--device",
        "cpu",
    ]
    command += ["--box-margin", str(DEMO_MARGIN), "--min-part", str(DEMO_MIN_PART), *options]
    environment = {
        **os.environ,
        "LABEL_STUDIO_URL": label_studio_url,
        "LABEL_STUDIO_API_KEY": token,
    }
    with running(command, environment, log) as process:
        wait_for(f"{url}/readyz", process, log, 120)
        yield url
