"""The container files: parsed and checked, and their commands run in a plain directory, as no
container engine is needed to try those.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml

from backend.config.models import load_settings
from backend.config.service import load_service_settings
from backend.demo.processes import free_port, running
from backend.label_studio.server.monitor import Monitor
from tests.conftest import ROOT

DOCKER = ROOT / "docker"


def instructions() -> list[tuple[str, str]]:
    """Instruction and arguments, comments out and continuations joined."""
    text = "\n".join(
        line
        for line in (DOCKER / "Dockerfile").read_text().splitlines()
        if not line.lstrip().startswith("#")
    )
    joined = re.sub(r"\\\n\s*", " ", text)
    return [
        (line.split(maxsplit=1)[0], line.split(maxsplit=1)[1])
        for line in joined.splitlines()
        if line.strip()
    ]


def stages() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    found = instructions()
    second = [k for k, (name, _) in enumerate(found) if name == "FROM"][1]
    return found[:second], found[second:]


def environment(stage: list[tuple[str, str]]) -> dict[str, str]:
    return dict(
        pair.split("=", 1) for name, text in stage if name == "ENV" for pair in shlex.split(text)
    )


def compose() -> dict:
    return yaml.safe_load((DOCKER / "docker-compose.yml").read_text())


def test_a07_the_image_runs_as_nobody_and_holds_no_tools() -> None:
    build, final = stages()
    assert {name for name, _ in [*build, *final]} <= {
        "ARG",
        "FROM",
        "ENV",
        "WORKDIR",
        "RUN",
        "COPY",
        "USER",
        "VOLUME",
        "EXPOSE",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "CMD",
    }
    assert ("USER", "10001") in final
    assert not any(name == "COPY" and "--from=build" not in text for name, text in final), (
        "only the environment comes into the image"
    )
    packages = next(text for name, text in final if name == "RUN")
    assert not any(tool in packages.split() for tool in ("git", "gcc", "build-essential", "curl"))
    assert "/readyz" in next(text for name, text in final if name == "HEALTHCHECK")
    assert ("VOLUME", "/models") in final
    assert "DEVICE" in [text.split("=")[0] for name, text in final if name == "ARG"]


def test_everything_that_is_copied_is_there_and_not_ignored() -> None:
    kept = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    for name, text in stages()[0]:
        if name == "COPY":
            for source in text.split()[:-1]:
                assert (ROOT / source).exists()
                assert source in kept


def test_compose_gives_label_studio_what_it_needs() -> None:
    services = compose()["services"]
    studio = services["label-studio"]
    backend = services["backend"]
    assert (
        studio["environment"]["ML_BLOCK_LOCAL_IP"]
        == studio["environment"]["SSRF_PROTECTION_ENABLED"]
        == "false"
    )
    assert studio["environment"]["LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN"] == "true"
    assert studio["networks"] == backend["networks"]
    assert all(port.startswith("127.0.0.1:") for port in studio["ports"])
    assert backend["environment"]["LABEL_STUDIO_URL"] == "http://label-studio:8080"
    assert backend["read_only"] is True
    assert backend["cap_drop"] == ["ALL"]
    assert (ROOT / backend["build"]["dockerfile"]).is_file()
    assert (
        f"label-studio=={studio['image'].split(':')[1]}"
        in (DOCKER / "label-studio.txt").read_text()
    ), "compose and `make studio` run the same version"


def example() -> dict[str, str]:
    return dict(
        line.split("=", 1)
        for line in (DOCKER / ".env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )


def resolve(text: str, variables: dict[str, str]) -> str:
    """Compose's own substitution, as far as the file uses it."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        found = variables.get(name, "")
        if not found and kind == ":?":
            raise KeyError(f"{name}: {rest}")
        return found or (rest if kind == ":-" else "")

    return re.sub(r"\$\{(\w+)(:-|:\?)?([^}]*)\}", value, str(text))


def test_the_example_names_every_variable_and_leaves_secrets_empty() -> None:
    used = set(re.findall(r"\$\{(\w+)", (DOCKER / "docker-compose.yml").read_text()))
    assert used == set(example())
    assert [name for name, value in example().items() if not value] == [
        "LABEL_STUDIO_PASSWORD",
        "LABEL_STUDIO_API_KEY",
        "BASIC_AUTH_PASS",
        "ALLOWED_HOSTS",
    ]
    values = [
        str(value)
        for service in compose()["services"].values()
        for value in service["environment"].values()
    ]
    with pytest.raises(KeyError, match="set it in .env"):
        resolve("".join(values), example())


def test_the_backend_reads_the_settings_compose_gives_it() -> None:
    filled = {
        **example(),
        "LABEL_STUDIO_PASSWORD": "p",
        "LABEL_STUDIO_API_KEY": "0" * 40,
        "BASIC_AUTH_PASS": "q",
    }
    given = {
        name: resolve(value, filled)
        for name, value in compose()["services"]["backend"]["environment"].items()
    }
    given |= {
        name: value
        for name, value in environment(stages()[1]).items()
        if name in ("LISTEN_HOST", "PORT", "MODEL_ROOT")
    }
    settings = load_service_settings({}, given)
    assert (settings.host, settings.port, settings.basic_auth_user) == (
        "0.0.0.0",
        9090,
        "label-studio",
    )
    assert load_settings({}, given).detector == "demo"


def test_the_start_command_serves(tmp_path: Path) -> None:
    final = stages()[1]
    command = yaml.safe_load(next(text for name, text in final if name == "CMD"))
    health = yaml.safe_load(
        next(text for name, text in final if name == "HEALTHCHECK").split("CMD ")[1]
    )
    port = free_port()
    given = environment(final)
    own = {
        "PATH": os.pathsep.join(
            [str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]]
        ),
        "HOME": str(tmp_path),
        "MPLCONFIGDIR": str(tmp_path),
    }
    own |= {
        "YOLO_CONFIG_DIR": str(tmp_path),
        "MODEL_ROOT": str(tmp_path / "models"),
        "DEVICE": "cpu",
        "PORT": str(port),
        "PYTHONUNBUFFERED": given["PYTHONUNBUFFERED"],
    }
    own |= {
        "LISTEN_HOST": given["LISTEN_HOST"],
        "BASIC_AUTH_USER": "u",
        "BASIC_AUTH_PASS": "p",
        "DETECTOR": "demo",
        "SEGMENTER": "demo",
    }
    program = (
        tmp_path / "yolosam2"
    )  # where pip would put it; the tests may run from a checkout that is not installed
    program.write_text(
        f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m"
        ' backend "$@"\n'
    )
    program.chmod(0o755)
    with running([str(program), *command[1:]], own, tmp_path / "log") as process:
        for _ in range(200):
            if (
                subprocess.run(
                    [sys.executable, *health[1:]], env=own, capture_output=True, check=False
                ).returncode
                == 0
            ):
                break
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        assert subprocess.run([sys.executable, *health[1:]], env=own, check=False).returncode == 0
        assert requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).status_code == 401
        assert (
            requests.get(f"http://127.0.0.1:{port}/metrics", auth=("u", "p"), timeout=5).status_code
            == 200
        )


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder that is gone when the test is over, however it ended: several GB must not wait for
    pytest's next sessions.
    """
    folder = tmp_path / "scratch"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_install_commands_make_a_working_environment(tmp_path: Path, scratch: Path) -> None:
    build, _ = stages()
    venv = scratch / "venv"
    source = tmp_path / "src"
    source.mkdir()
    own = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        # The modules of an image are all compiled; here Python compiles those that it uses. Options
        # that say no are turned on by a 0.
        "PIP_NO_COMPILE": "0",
        **{k: v for k, v in os.environ.items() if k.startswith("PIP_")},
    }
    own |= {
        k: v
        for k, v in environment(build).items()
        if k != "PIP_NO_CACHE_DIR" or "PIP_CACHE_DIR" not in own
    }  # a cache of the machine's own saves the download
    for name, text in build:
        if name == "COPY":
            *sources, target = text.split()
            for item in sources:
                where = source / target / (item if target == "./" else "")
                (shutil.copytree if (ROOT / item).is_dir() else shutil.copy)(ROOT / item, where)
        elif name == "RUN":
            command = (
                re.sub(r"--mount=\S+", "", text)
                .replace("/opt/venv", str(venv))
                .replace("python -m venv", f"{sys.executable} -m venv")
            )
            subprocess.run(["sh", "-euc", command], cwd=source, env=own, check=True)
    shutil.rmtree(source)
    done = subprocess.run(
        [str(venv / "bin" / "yolosam2"), "demo", "--out", str(tmp_path / "out")],
        env=own,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "pixel accuracy" in done.stdout


def test_what_watches_the_server_asks_for_what_it_counts() -> None:
    """Every metric of the dashboard and the alerts is one that the server has."""
    monitor = Monitor()
    monitor.models.labels("v1").set(1)
    names = set(re.findall(r"^# TYPE (\S+)", monitor.text().decode(), re.M))
    names |= {f"{name}_{part}" for name in names for part in ("bucket", "sum", "count")}
    dashboard = json.loads((DOCKER / "grafana-dashboard.json").read_text())
    alerts = yaml.safe_load((DOCKER / "prometheus-alerts.yml").read_text())
    asked = [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]
    asked += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    assert len(asked) >= 12
    for expression in asked:
        used = set(re.findall(r"yolosam2_\w+", expression))
        assert used <= names, expression
        assert used or "up{" in expression or "process_start_time_seconds" in expression


def test_kubernetes_runs_what_compose_runs() -> None:
    parts = list(yaml.safe_load_all((DOCKER / "kubernetes.yaml").read_text()))
    deployment = next(one for one in parts if one["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsUser"] == 10001
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {
        container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")
    } == {
        "/livez",
        "/readyz",
    }
    settings = {one["name"]: one["value"] for one in container["env"]}
    secret = next(one for one in parts if one["kind"] == "Secret")["stringData"]
    ours = compose()["services"]["backend"]["environment"]
    assert set(settings) | set(secret) <= set(ours)
    service = load_service_settings({}, {**settings, **{key: "x" for key in secret}})
    assert service.log_format == "json"
    grace = pod["terminationGracePeriodSeconds"]
    assert grace > service.deadline_s


def test_compose_waits_for_label_studio_and_bounds_memory() -> None:
    services = compose()["services"]
    assert services["backend"]["depends_on"]["label-studio"]["condition"] == "service_healthy"
    for service in services.values():
        assert service["restart"] == "unless-stopped"
        assert service["deploy"]["resources"]["limits"]["memory"]
