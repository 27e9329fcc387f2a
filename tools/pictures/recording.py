"""A recording of `fastlib demo` on a terminal, as an SVG that moves.

The command runs on an emulated terminal (pyte). The frames become groups of the SVG, and a style
shows one after the other. Where a reader prefers no motion, the last one is shown.
"""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from typing import Any, Final
from xml.sax.saxutils import escape

from tools.processes import require

COLUMNS: Final = 100
LINES: Final = 30
PERIOD_SECONDS: Final = 0.5
LAST_SECONDS: Final = 4.0
"""How long the last frame is shown."""
LIMIT_SECONDS: Final = 120
_WIDTH: Final = 7.8
_HEIGHT: Final = 17
_COLORS: Final = {
    "default": "#d8dee9", "black": "#4c566a", "red": "#ff6b6b", "green": "#8bd48b",
    "brown": "#ebcb8b", "yellow": "#ebcb8b", "blue": "#81a1f1", "magenta": "#c792ea",
    "cyan": "#7fdbca", "white": "#eceff4",
}  # fmt: skip

Frame = tuple[str, ...]
"""The lines of a screen, each as SVG."""


def draw() -> str:
    """Run the demo, and return its recording."""
    require("pyte", "rich")
    frames: list[tuple[Frame, float]] = []
    for frame in _frames():
        if frames and frames[-1][0] == frame:
            frames[-1] = (frame, frames[-1][1] + PERIOD_SECONDS)
        else:
            frames.append((frame, PERIOD_SECONDS))
    frames[-1] = (frames[-1][0], LAST_SECONDS)
    return _svg(frames)


def _frames() -> Iterator[Frame]:
    """Yield what the screen shows, once in each period."""
    import pyte

    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {name: text for name, text in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-m", "fastlib", "demo"],
        env=environment | {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(LINES)},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    limit = time.monotonic() + LIMIT_SECONDS
    until = time.monotonic() + PERIOD_SECONDS
    try:
        while time.monotonic() < limit:
            ready, _, _ = select.select([ours], [], [], max(0.0, until - time.monotonic()))
            if ready:
                try:
                    stream.feed(os.read(ours, 1 << 16))
                except OSError:  # the command has ended
                    break
            else:
                yield _frame(screen)
                until += PERIOD_SECONDS
        yield _frame(screen)
    finally:
        os.close(ours)
        process.kill()
        process.wait()


def _frame(screen: Any) -> Frame:
    return tuple(_line(screen.buffer[number]) for number in range(LINES))


def _line(cells: Any) -> str:
    """Return a line as pieces of one style each, at their columns."""
    pieces: list[tuple[int, str, str]] = []
    for column in range(COLUMNS):
        cell = cells[column]
        style = _style(cell)
        if pieces and pieces[-1][2] == style:
            start, text, _ = pieces[-1]
            pieces[-1] = (start, text + cell.data, style)
        else:
            pieces.append((column, cell.data, style))
    return "".join(
        f'<tspan x="{start * _WIDTH:g}"{style}>{escape(text.rstrip())}</tspan>'
        for start, text, style in pieces
        if text.strip()
    )


def _style(cell: Any) -> str:
    name = cell.fg.removeprefix("bright")
    color = _COLORS.get(name) or f"#{name}"
    fill = "" if name == "default" else f' fill="{color}"'
    return fill + (' font-weight="bold"' if cell.bold else "")


def _svg(frames: list[tuple[Frame, float]]) -> str:
    width, height = COLUMNS * _WIDTH + 24, LINES * _HEIGHT + 24
    total = sum(seconds for _, seconds in frames)
    names: dict[str, str] = {}
    groups, rules, passed = [], [], 0.0
    for number, (frame, seconds) in enumerate(frames):
        uses = []
        for line, text in enumerate(frame):
            if text:
                name = names.setdefault(text, f"l{len(names)}")
                uses.append(f'<use href="#{name}" y="{(line + 1) * _HEIGHT}"/>')
        last = number == len(frames) - 1
        groups.append(f'<g class="{"last" if last else "f"}" id="f{number}">{"".join(uses)}</g>')
        begin, end = 100 * passed / total, 100 * (passed + seconds) / total
        rules.append(
            f"@keyframes k{number}{{0%{{opacity:0}}{begin:.3f}%{{opacity:1}}"
            f"{end:.3f}%{{opacity:0}}}}"
            f"#f{number}{{animation:k{number} {total:g}s step-end infinite}}"
        )
        passed += seconds
    texts = (f'<text id="{name}">{text}</text>' for text, name in names.items())
    style = (
        "text{font:13px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#d8dee9;"
        "white-space:pre}.f{opacity:0}"
        f"@media (prefers-reduced-motion:no-preference){{{''.join(rules)}}}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}">',
            "<title>fastlib demo on a terminal</title>",
            f"<style>{style}</style>",
            f"<defs>{''.join(texts)}</defs>",
            f'<rect width="{width:g}" height="{height:g}" rx="8" fill="#1e222a"/>',
            '<g transform="translate(12 6)">',
            *groups,
            "</g>",
            "</svg>",
        ]
    )
