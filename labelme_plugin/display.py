"""Whether Qt can open a window here. It ends the whole program where it cannot, without saying what
is missing.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from backend.errors import ConfigError

# Packages of Debian and Ubuntu that hold libraries which Qt's platform plugin needs, and which a
# bare desktop or container lacks.
_PACKAGES = {
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-xinerama.so.0": "libxcb-xinerama0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libfontconfig.so.1": "libfontconfig1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
}
_MISSING = re.compile(r"(\S+\.so[.\d]*): cannot open shared object file")


def missing_libraries() -> list[str]:
    """Names of the libraries that Qt's plugin for X needs and that are not here, such as
    ``libxcb-icccm.so.4``.

    All that are known are tried, as the system's loader names only the first.
    """
    missing = []
    for name in _PACKAGES:
        try:
            ctypes.CDLL(name)
        except OSError:
            missing.append(name)
    plugin = _xcb_plugin()
    if plugin is not None:
        try:
            ctypes.CDLL(str(plugin))
        except OSError as error:
            found = _MISSING.search(str(error))
            # A wheel brings some of those above with it; the plugin tells which count.
            return (
                list(dict.fromkeys([found[1], *missing]))
                if found and "libQt5" not in found[1]
                else missing
            )
        return []
    return missing


def _xcb_plugin() -> Path | None:
    spec = find_spec("PyQt5")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / "Qt5" / "plugins" / "platforms" / "libqxcb.so"
        if path.is_file():
            return path
    return None


def remedy(missing: list[str]) -> str:
    """What installs libraries, for a person to type."""
    packages = [_PACKAGES.get(name, name) for name in missing]
    return f"apt-get install {' '.join(packages)}"


def check_display() -> None:
    """Refuse to start where Qt would end the program.

    Raises:
        ConfigError: no display, or libraries are missing; with what installs them.
    """
    platform = os.environ.get("QT_QPA_PLATFORM", "")
    if not sys.platform.startswith("linux") or platform not in ("", "xcb"):
        return
    if not platform and os.environ.get("WAYLAND_DISPLAY"):
        return
    if not os.environ.get("DISPLAY"):
        raise ConfigError(
            "labelme: there is no display here (DISPLAY is not set); start it on a desktop, or with"
            " ssh -X. Without a window: yolosam2 annotate PICTURES --out PICTURES"
        )
    if missing := missing_libraries():
        raise ConfigError(
            f"labelme: Qt cannot open a window, as libraries are missing: {', '.join(missing)};"
            f" {remedy(missing)}"
        )
