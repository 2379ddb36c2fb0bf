"""Damage sound inputs of every format at random and read them again.

    python -m tests.support.mutate_inputs --minutes 20

Tells every input at which a reader raised anything but a sentence, took long, or took much memory;
such inputs are kept for a test. Each mutant is read in this process, so that a crash is seen too.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import re
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backend.core.classes import ClassNames
from backend.datasets.convert import ConvertOptions, convert
from backend.errors import LabelingError
from backend.evaluation.from_export import TaskReader
from backend.evaluation.pairs import Selection
from backend.files.pictures import Pictures
from backend.formats.base import ReadRequest
from backend.formats.options import ReadOptions, WriteOptions
from backend.formats.registry import format_names, format_of
from backend.formats.sample import Fault
from tests.support.hard_samples import samples_in

SLOW_S = 5.0
LARGE_BYTES = 1 << 30
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 1e308, float("nan"), 10**400, "", "0", "x" * 500, "\ud800", "a\nb",
    [], {}, [[]], [None], {"a": 1}, "../../x", "/etc/passwd", "\0", [1, 2], -(2**63), "255", 2**31,
)  # fmt: skip


def seeds(folder: Path) -> dict[str, Path]:
    """A small dataset in every format, by name."""
    labelme = folder / "labelme"
    pictures = folder / "pictures"
    from backend.datasets.copying import Copies
    from backend.formats.base import WriteRequest

    made = {}
    for name in format_names():
        out = folder / name
        out.mkdir(parents=True)
        known = Pictures([pictures], pictures, [out])
        one = format_of(name)
        request = WriteRequest(
            out=out,
            names=ClassNames(),
            pictures=known,
            copies=Copies("copy", known),
            options=WriteOptions(),
        )
        writer = one.write(request)
        for k, sample in enumerate(samples_in(pictures)):
            try:
                encoded = writer.encode(sample, f"s{k}")
            except LabelingError:
                continue
            for path, content in encoded.files:
                (out / path).parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, bytes):
                    (out / path).write_bytes(content)
                else:
                    shutil.copy(content, out / path)
            writer.add(encoded)
        for path, content in writer.close():
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                (out / path).write_bytes(content)
            else:
                content.finish().rename(out / path)
        made[name] = out
    assert labelme.is_dir()
    return made


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every holder and key in a JSON value."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A file with something changed: a value of its JSON, a line, or bytes."""
    kind = rng.random()
    if kind < 0.6 and data[:1] in (b"{", b"["):
        try:
            document = json.loads(data)
            for _ in range(rng.choice((1, 1, 2, 5))):
                holder, key = rng.choice(list(places(document)))
                turn = rng.random()
                if turn < 0.7:
                    holder[key] = rng.choice(ODD)
                elif turn < 0.8 and isinstance(holder, dict):
                    del holder[key]
                elif turn < 0.9 and isinstance(holder, list):
                    holder += [holder[key]] * rng.choice((1, 3, 50))
                else:
                    holder[key] = rng.choice(list(places(document)))[0]
            return json.dumps(document).encode("utf-8", "surrogatepass")
        except (ValueError, RecursionError, IndexError, KeyError):
            pass
    if kind < 0.75 and b"\n" in data and b"\0" not in data[:500]:
        lines = data.split(b"\n")
        k = rng.randrange(len(lines))
        words = lines[k].split(b" ")
        words[rng.randrange(len(words))] = str(rng.choice(ODD)).encode("utf-8", "replace")[:400]
        lines[k] = b" ".join(words)
        return b"\n".join(lines)
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 30))):
        if not changed:
            break
        at = rng.randrange(len(changed))
        turn = rng.random()
        if turn < 0.5:
            changed[at] = rng.randrange(256)
        elif turn < 0.75:
            del changed[at : at + rng.choice((1, 4, 100))]
        else:
            changed[at:at] = bytes(changed[at : at + rng.choice((1, 4, 100))])
    return bytes(changed)


class Trouble(logging.Handler):
    """Remembers that an unexpected error was logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(self.format(record))


def read(name: str, folder: Path, out: Path, turn: int) -> Iterator[str]:
    """Read a dataset as convert, or as scoring does; gives all sentences."""
    if turn % 3 == 0:
        shutil.rmtree(out, ignore_errors=True)
        target = format_names()[turn // 3 % len(format_names())]
        options = ConvertOptions(progress=False, write=WriteOptions(copy="none"))
        for _, sentence in convert(folder, out, target, options, name).failed:
            yield sentence
        return
    if name == "label-studio" and turn % 3 == 1:
        from backend.core.classes import ClassIndex
        from backend.formats.json_stream import read_tasks

        reader = TaskReader(ClassIndex(), Selection())
        for path in sorted(folder.glob("*.json")):
            with path.open("rb") as stream:
                for place, task in enumerate(read_tasks(stream, path)):
                    for item in reader.pairs(task, place):
                        if isinstance(item, Fault):
                            yield item.sentence
        return
    request = ReadRequest(
        source=folder,
        names=ClassNames(),
        pictures=Pictures([folder], None),
        options=ReadOptions(for_scoring=turn % 2 == 0),
    )
    for item in format_of(name).read(request).samples():
        if isinstance(item, Fault):
            yield item.sentence


def main() -> int:
    """Run for a while and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("mutants"))
    args = parser.parse_args()
    rng = random.Random(args.seed)
    trouble = Trouble()
    logging.getLogger().addHandler(trouble)
    counts: Counter[str] = Counter()
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as home:
        made = seeds(Path(home) / "seeds")
        files = {
            name: [
                path
                for path in sorted(folder.rglob("*"))
                if path.is_file() and path.suffix in (".json", ".txt", ".yaml", ".png", ".xml")
            ]
            for name, folder in made.items()
        }
        end = time.monotonic() + 60 * args.minutes
        turn = 0
        told = 0
        while time.monotonic() < end:
            turn += 1
            name = rng.choice(list(made))
            victim = rng.choice(files[name])
            sound = victim.read_bytes()
            mutant = mutate(sound, rng)
            victim.write_bytes(mutant)
            start = time.process_time()
            said = []
            wrong = ""
            try:
                said += read(name, made[name], Path(home) / "out", turn)
            except LabelingError as error:
                said.append(str(error))
            except Exception as error:
                wrong = f"{type(error).__name__}: {error}"
            took = time.process_time() - start
            victim.write_bytes(sound)
            if trouble.seen:
                wrong = wrong or trouble.seen[0].splitlines()[-1]
                trouble.seen.clear()
            twice = next((one for one in said if re.search(r"([\w./]{8,}: ).*\1", one)), "")
            counts[name] += 1
            told += bool(said)
            for kind, text in (
                ("exception", wrong),
                ("slow", f"{took:.1f} s" if took > SLOW_S else ""),
                ("names a place twice", twice),
            ):
                if text:
                    found[kind] += 1
                    args.keep.mkdir(exist_ok=True)
                    kept = args.keep / f"{turn}-{name}-{victim.name}"
                    kept.write_bytes(mutant)
                    sys.stdout.write(f"{kind}: {name} {victim.name} (turn {turn}): {text[:300]}\n")
                    sys.stdout.flush()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    totals = f"{sum(counts.values())} mutants ({dict(counts)}), {told} of them told of"
    results = f"{dict(found) or 'nothing found'}; peak memory {peak >> 20} MiB"
    sys.stdout.write(f"{totals}: {results}\n")
    return 1 if found or peak > LARGE_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
