"""The process of a training: how it is called, whether it still runs, and what it left.

It is a process of its own, and of its own session, so that training takes nothing from the server
but time, and goes on where the server is killed.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from backend.config.fields import settings_of
from backend.config.models import Settings
from backend.config.service import ServiceSettings

RESULT = "job.json"
LOG = "job.log"
_NICE = 10  # so that predictions go first
# What a training takes over from the server; the rest of its models' settings is of no use to it.
_MODELS = ("detector", "segmenter", "segmenter_config", "model_root", "device", "max_pixels")
# What a training fetches pictures by.
_FETCHING = (
    "label_studio_url",
    "label_studio_public_url",
    "label_studio_api_key",
    "allowed_hosts",
    "local_files_root",
    "fetch_workers",
    "max_image_bytes",
)
_LOGS = ("detector-log.jsonl", "segmenter-log.jsonl")  # a line an epoch
_KILL_S = 5.0  # that the system may take to end a process
_TAIL = 4096  # bytes of a log that are looked at


def command_of(project: str, run: Path, settings: Settings, options: str = "") -> list[str]:
    """How a training of a project is called.

    Args:
        project: its number in Label Studio.
        run: folder of the run.
        settings: of the models that it begins with.
        options: of ``yolosam2 finetune``, as a shell reads them; they overrule what the server
            says.
    """
    command = [sys.executable, "-m", "backend", "finetune", "--project", project]
    command += ["--out", str(run), "--json", "--no-progress"]
    declared = settings_of(Settings)
    default = Settings()
    for name in _MODELS:
        value = getattr(settings, name)
        if value != getattr(default, name):
            command += [declared[name].flags[0], str(value)]
    return command + shlex.split(options)


def environment_of(service: ServiceSettings) -> dict[str, str]:
    """The environment of a training: the token goes there, where no list of processes shows it."""
    declared = settings_of(ServiceSettings)
    # What else the server was told is not the training's, and may mean something else there.
    others = [one for name, one in declared.items() if name not in _FETCHING]
    dropped = {
        name for one in (*others, *settings_of(Settings).values()) for name in one.environment
    }
    cores = os.cpu_count() or 1
    found = {name: value for name, value in os.environ.items() if name not in dropped}
    found["OMP_NUM_THREADS"] = str(max(1, cores - 1))
    if service.label_studio_url is not None:
        found["LABEL_STUDIO_URL"] = service.label_studio_url
    if service.label_studio_api_key:
        found["LABEL_STUDIO_API_KEY"] = service.label_studio_api_key.reveal()
    return found


class JobProcess:
    """The process of a training, started by this server or by one before it.

    Args:
        pid: its number.
        run: the folder that it trains in, which is in its command line: a number alone may be that
            of another process by now.
        child: the process itself, where this server started it.
    """

    def __init__(self, pid: int, run: Path, child: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self._run = run
        self._child = child

    @classmethod
    def start(cls, command: Sequence[str], run: Path, environment: Mapping[str, str]) -> JobProcess:
        """Start a training; what it prints goes to files in its folder.

        Raises:
            OSError: the system refuses.
        """
        run.mkdir(parents=True, exist_ok=True)
        with (run / RESULT).open("wb") as result, (run / LOG).open("ab") as log:
            child = subprocess.Popen(  # noqa: S603, our own program, no shell
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=result,
                stderr=log,
                env=dict(environment),
                start_new_session=True,
            )
        with suppress(psutil.Error):
            psutil.Process(child.pid).nice(_NICE)
        return cls(child.pid, run, child)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        if self._child is not None:
            return self._child.poll() is None
        try:
            return str(self._run) in psutil.Process(self.pid).cmdline()
        except psutil.Error:
            return False

    @property
    def code(self) -> int | None:
        """Its exit code; None where it runs, or where another server started it."""
        return None if self._child is None else self._child.poll()

    def interrupt(self) -> None:
        """Let it keep what it has, and end."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)
        self.wait(_KILL_S)

    def wait(self, seconds: float) -> None:
        """Wait for its end, where this server started it."""
        if self._child is not None:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(seconds)

    def _signal(self, number: int) -> None:
        if self.is_running:
            with suppress(OSError):
                os.kill(self.pid, number)


def result_of_run(run: Path) -> dict[str, Any] | None:
    """What a training printed; None where it did not come that far."""
    try:
        found = json.loads((run / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def last_words(run: Path) -> str:
    """The last line of a training's log."""
    lines = _tail(run / LOG).splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def progress_of(run: Path, since: float) -> dict[str, Any] | None:
    """The last epoch of a training that began at ``since``, in seconds since 1970."""
    newest: tuple[float, Path] | None = None
    for name in _LOGS:
        with suppress(OSError):
            changed = (run / name).stat().st_mtime
            if changed >= since and (newest is None or changed > newest[0]):
                newest = changed, run / name
    if newest is None:
        return None
    with suppress(ValueError, IndexError):
        found = json.loads(_tail(newest[1]).splitlines()[-1])
        if isinstance(found, dict):
            return {"what": newest[1].name.partition("-")[0], **found}
    return None


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _TAIL))
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
