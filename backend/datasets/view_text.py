"""What a dataset holds, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MOST = 20


def as_text(report: Mapping[str, Any], page: Path | None) -> str:
    """For people: counts, then what deserves a look.

    Args:
        report: from ``view``.
        page: that was written.
    """
    lists = ", ".join(f"{name} {n}" for name, n in report["lists"].items() if name)
    images = "1 image" if report["images"] == 1 else f"{report['images']} images"
    lines = [
        f"{images} with {report['objects']} objects, {report['format']}"
        + (f" ({lists})" if lists else "")
    ]
    lines += [f"  {row['objects']:>7}  {row['class']}" for row in report["classes"][:_MOST]]
    if len(report["classes"]) > _MOST:
        lines.append(f"  and {len(report['classes']) - _MOST} more classes")
    if n := report["pictures"].get("not at hand"):
        lines.append(f"{n} pictures are not at hand; --images names their folder")
    lines += [
        f"class {one['class']!r} has {one['objects']}, perhaps a slip of the keyboard:"
        f" {', '.join(dict.fromkeys(one['images']))}"
        for one in report["rare_classes"][:_MOST]
    ]
    kinds = Counter(one["kind"] for one in report["suspects"])
    lines += [f"{n} pictures: {kind}" for kind, n in kinds.most_common()]
    lines += [f"not read as it is: {n} {what}" for what, n in report["left_out"].items()]
    lines += report["remarks"]
    if report["failed"]:
        lines.append(f"failed {len(report['failed'])}:")
        lines += [f"  {one['reason']}" for one in report["failed"][:_MOST]]
    if report["stopped"]:
        lines.append("stopped early; this is what came before")
    if page is not None:
        lines.append(f"wrote {page}")
    return "\n".join(lines)
