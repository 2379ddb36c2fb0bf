"""``make studio`` without Label Studio: ports, the lock, and that nothing is left running."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from backend.demo.processes import usable_port
from backend.demo.studio import locked
from backend.errors import ConfigError
from tests.conftest import ROOT


def test_a_port_that_is_taken_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert usable_port(port) != port
    assert f"Port {port} is taken" in capsys.readouterr().out
    assert usable_port(port) == port


def test_two_studios_on_one_folder_are_refused(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(ConfigError, match="running on this folder already"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass


# Whoever runs the tests may have told them to ignore signals, as nohup does, and programs they
# start would ignore them too.
_PLAIN = (
    "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL);"
    " signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_whatever_ends_it_ends_its_servers(tmp_path: Path, number: signal.Signals) -> None:
    program = tmp_path / "label-studio"
    program.write_text("#!/bin/sh\nexec sleep 300\n")
    program.chmod(0o755)
    command = [
        sys.executable,
        "-m",
        "backend.demo.studio",
        "--label-studio",
        str(program),
        "--data",
        str(tmp_path / "data"),
    ]
    plain = [sys.executable, "-c", _PLAIN, *command]
    process = subprocess.Popen(
        plain,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(600):
        children = psutil.Process(process.pid).children()
        if children and "sleep" in children[0].name():
            break
        time.sleep(0.1)
    else:
        pytest.fail("its servers did not start")
    process.send_signal(number)
    assert process.wait(30) == 130
    psutil.wait_procs(children, 5)
    assert not any(child.is_running() for child in children)
