"""The README and the pages of docs/, taken apart: blocks of code, links, and tables of settings.

``python -m tests.docs.pages`` writes the tables of settings anew.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from backend.config.fields import markdown_table
from backend.config.models import Settings
from backend.config.service import ServiceSettings

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
TABLES = {
    "backend.config.models.Settings": ("models.md", Settings),
    "backend.config.service.ServiceSettings": ("label-studio.md", ServiceSettings),
}
_FENCE = re.compile(r"^```(\w*)$")
_NOT_RUN = re.compile(r"^<!-- not run: (.+) -->$")
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        language: what stands behind the fence.
        text: between the fences.
        line: number of the opening fence, from 1.
        why_not_run: what the comment directly above says; None without one.
    """

    language: str
    text: str
    line: int
    why_not_run: str | None

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block, with continued lines joined."""
        return self.text.replace("\\\n", " ").splitlines()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = []
    language: str | None = None
    inside: list[str] = []
    start = 0
    why: str | None = None
    before = ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if language is not None and line == "```":
            found.append(Block(language, "\n".join(inside), start, why))
            language = None
        elif language is not None:
            inside.append(line)
        elif fence:
            marked = _NOT_RUN.match(before)
            why = marked.group(1) if marked else None
            language = fence.group(1)
            start = number
            inside = []
        before = line
    return found


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def spans(page: Path) -> list[str]:
    """Everything in single backticks outside of blocks."""
    return _SPAN.findall(prose(page))


def links(page: Path) -> list[str]:
    """The targets of links and images outside of blocks."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """What links can point at inside a page: its headings, as they stand in addresses."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def between_markers(text: str, name: str) -> re.Match[str] | None:
    """Where the table of a settings class stands in a page."""
    start = re.escape(f"<!-- settings: {name} -->")
    return re.search(rf"(?<={start}\n)(.*?)(?=<!-- end -->)", text, flags=re.S)


def table_of(name: str) -> str:
    """A table of settings as it has to stand between its markers."""
    return markdown_table(TABLES[name][1]) + "\n"


def write_tables() -> None:
    """Write the tables of settings into their pages."""
    for name, (page, _) in TABLES.items():
        path = ROOT / "docs" / page
        text = path.read_text(encoding="utf-8")
        found = between_markers(text, name)
        if found is None:
            raise ValueError(f"{path}: has no markers for {name}")
        path.write_text(text[: found.start()] + table_of(name) + text[found.end() :], "utf-8")


if __name__ == "__main__":
    write_tables()
