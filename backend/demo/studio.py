"""A real Label Studio beside the backend, from nothing to masks on the screen.

``make studio`` and the end-to-end tests use it.

Label Studio lives in an environment of its own, because its pins and ours do not agree. It runs on
SQLite, on the loopback address, with telemetry off, and with the two settings that let it talk to a
backend on a private address.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from backend.demo.processes import PASSWORD, TOKEN, USER, backend, label_studio, usable_port
from backend.demo.run import SAMPLES
from backend.errors import ConfigError, Unavailable, counted
from backend.formats.label_studio.make_config import make_config
from backend.label_studio.api.instructions import write_instructions
from backend.label_studio.api.presentation import data_manager, make_hardest_first, show_version


class Studio:
    """What a person would do in Label Studio, through its API.

    Args:
        url: of Label Studio.
        token: legacy.
    """

    def __init__(self, url: str, token: str = TOKEN) -> None:
        self.url = url
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Token {token}"},
            timeout=180,
            follow_redirects=True,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def call(self, method: str, path: str, *, body: Any = None, **options: Any) -> Any:
        """One API call.

        Args:
            method: of HTTP.
            path: on Label Studio.
            body: sent as JSON; None for none.
            options: of ``httpx.Client.request``.

        Returns:
            The JSON of the answer.

        Raises:
            Unavailable: a status over 399, with what Label Studio said.
        """
        if body is not None:
            options["json"] = body
        reply = self._client.request(method, path, **options)
        if reply.status_code >= 400:
            raise Unavailable(
                f"Label Studio answered {reply.status_code} to {method} {path}: {reply.text[:500]}"
            )
        return reply.json() if reply.content else None

    def create_project(self, title: str, label_config: str) -> int:
        """A project's id."""
        return int(
            self.call("POST", "/api/projects", json={"title": title, "label_config": label_config})[
                "id"
            ]
        )

    def upload(self, project: int, pictures: Sequence[Path]) -> None:
        """Import pictures, one task each."""
        files = {f"file{k}": (path.name, path.read_bytes()) for k, path in enumerate(pictures)}
        self.call("POST", f"/api/projects/{project}/import", files=files)

    def connect(self, project: int, url: str, **options: Any) -> int:
        """Connect a backend for batch and clicks; its id."""
        body = {
            "project": project,
            "url": url,
            "title": "YOLO-SAM2",
            "is_interactive": True,
            **options,
        }
        return int(self.call("POST", "/api/ml", json=body)["id"])

    def tasks(self, project: int) -> list[dict[str, Any]]:
        """All tasks with everything."""
        page = self.call(
            "GET", "/api/tasks", params={"project": project, "page_size": 1000, "fields": "all"}
        )
        return sorted(page["tasks"], key=lambda task: task["id"])

    def retrieve_predictions(self, project: int) -> str:
        """What the Data Manager's action for batch predictions does, on all tasks."""
        body = {
            "selectedItems": {"all": True, "excluded": []},
            "ordering": [],
            "filters": {"conjunction": "and", "items": []},
        }
        reply = self.call(
            "POST",
            "/api/dm/actions",
            params={"id": "retrieve_tasks_predictions", "project": project},
            json=body,
        )
        return str(reply.get("detail"))


@contextlib.contextmanager
def locked(data: Path) -> Iterator[int]:
    """Keep others off the data folder: two Label Studios on one database would spoil it.

    Gives the file that is locked.

    Raises:
        ConfigError: somebody is on it.
    """
    data.mkdir(parents=True, exist_ok=True)
    with (data / "studio.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"{data}: a studio is running on this folder already; end it first (Ctrl-C in its"
                " terminal)"
            ) from None
        yield file.fileno()


_TITLE = "YOLO-SAM2 samples"


def _sample_project(studio: Studio, backend_url: str) -> tuple[int, int]:
    """The project of an earlier start with all that was done in it, or a new one.

    Connected, with predictions. Gives its number and that of the tab to begin with.
    """
    known = [
        p["id"]
        for p in studio.call("GET", "/api/projects", params={"page_size": 1000})["results"]
        if p["title"] == _TITLE
    ]
    if known:
        project = int(known[0])
    else:
        names = [
            name
            for name in (SAMPLES / "class_names.txt").read_text(encoding="utf-8").split()
            if name != "_background_"
        ]
        project = studio.create_project(_TITLE, make_config(names))
        studio.upload(project, sorted((SAMPLES / "JPEGImages").glob("*.jpg")))
    connections = studio.call("GET", "/api/ml", params={"project": project})
    if not connections:
        studio.connect(project, backend_url)
    elif connections[0]["url"] != backend_url:
        studio.call(
            "PATCH",
            f"/api/ml/{connections[0]['id']}",
            json={"url": backend_url, "project": project},
        )
    studio.retrieve_predictions(project)
    version = studio.call("GET", "/api/ml", params={"project": project})[0]["model_version"]
    show_version(studio, project, version)
    tab = make_hardest_first(studio, project)
    write_instructions(studio, project)
    return project, tab


def run_studio(program: Path, data: Path, port: int, backend_port: int) -> None:
    """Start both, make a project with the sample pictures, retrieve predictions, and wait for
    Ctrl-C.
    """
    if not program.is_file():
        raise ConfigError(f"{program}: Label Studio is not installed there; `make studio` does it")
    program = program.absolute()
    data = data.absolute()
    say = sys.stdout.write
    first = (
        "" if (data / "label_studio.sqlite3").is_file() else ", for the first time: a minute or two"
    )
    say(f"Starting Label Studio{first}; its log is {data / 'label-studio.log'}\n")
    sys.stdout.flush()
    with (
        locked(data) as lock,
        label_studio(program, data, usable_port(port), [lock]) as url,
        backend(url, usable_port(backend_port), data / "backend.log") as backend_url,
        contextlib.closing(Studio(url)) as studio,
    ):
        project, tab = _sample_project(studio, backend_url)
        tasks = [task for task in studio.tasks(project) if not task["total_annotations"]]
        n_regions = sum(len(p["result"]) for task in tasks for p in task["predictions"])
        say(f"""
{counted(len(tasks), "picture")} with {counted(n_regions, "predicted mask")} waiting.

  open      {data_manager(url, project, tab)}
            this tab, "Hardest first", begins with the least sure pictures
  login     {USER}   password {PASSWORD}
  look      "Label Tasks As Displayed", behind the arrow of the blue button, opens one after the
            other: the masks carry their classes; Submit accepts them
  refine    1. select a mask (in the list of regions, or with the arrow, key V) and press Backspace,
               so that there is an object without one
            2. switch on Auto-Annotation at the bottom, and leave Auto-Accept off
            3. click on the smart tool, the last one beside the picture: dots are the point, a
               square with two corners is the box; another click takes the next
            4. choose the object's label under "Smart point" (its key: 1 to 6), then click on
               the object; for every further click choose the label again if it is not lit; Alt
               and a click says what does not belong to it; or under "Smart box" (q w e r t y),
               and draw a box
            5. the tick at the bottom accepts the suggestion
  score     yolosam2 score --url {url} --project {project} --report report.html
            with the token of Account & Settings in LABEL_STUDIO_API_KEY
  backend   {backend_url}, connected under Settings > Model; log in {data / "backend.log"}

Press Ctrl-C to stop both. The project stays in {data}.
""")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


def main() -> int:
    """Parse the options, run, and return the exit code."""
    kind = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m backend.demo.studio",
        description=__doc__.splitlines()[0] if __doc__ else "",
        formatter_class=kind,
    )
    parser.add_argument(
        "--label-studio",
        type=Path,
        default=Path(shutil.which("label-studio") or "label-studio"),
        help="its program",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(tempfile.gettempdir()) / "yolosam2-studio",
        help="database, uploads and logs",
    )
    parser.add_argument("--port", type=int, default=8080, help="of Label Studio")
    parser.add_argument("--backend-port", type=int, default=9090, help="of the backend")
    args = parser.parse_args()

    def leave(number: int, frame: Any) -> None:
        for ending in endings:
            signal.signal(
                ending, signal.SIG_IGN
            )  # ending both servers must not be interrupted; it takes seconds
        raise KeyboardInterrupt

    endings = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        endings.append(signal.SIGHUP)
    for number in endings:
        signal.signal(number, leave)
    try:
        run_studio(args.label_studio, args.data, args.port, args.backend_port)
    except (ConfigError, Unavailable) as error:
        sys.stderr.write(f"studio: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
