"""A text with its entities as HTML: nested ones drawn nested, everything that came from outside escaped."""

import hashlib
import heapq
from collections.abc import Collection, Sequence
from html import escape
from typing import NamedTuple


class Shown(NamedTuple):
    """A span `[start, end)` in code points, its label, and what a tooltip says of it."""

    start: int
    end: int
    label: str
    tip: str = ""


class _Piece(NamedTuple):
    """A part of entity `number` that no other entity's border cuts; `last` where the entity ends with it."""

    start: int
    end: int
    number: int
    last: bool


def highlighted(
    text: str, entities: Sequence[Shown], *, marked: Collection[int] = (), active: int | None = None
) -> str:
    """Return HTML whose text is `text`, code point for code point, so that offsets can be read from it.

    Labels and tooltips are attributes, shown by the style sheet. Where two entities cross, the one that begins later
    is drawn in two parts. `marked` are the numbers of entities to stand out, `active` that of the chosen one.
    """
    html: list[str] = []
    open_pieces: list[_Piece] = []
    at = 0
    for piece in _pieces(entities):
        while open_pieces and open_pieces[-1].end <= piece.start:
            at = _write(html, text, at, open_pieces.pop().end)
            html.append("</mark>")
        at = _write(html, text, at, piece.start)
        html.append(
            _opening(entities[piece.number], piece, marked=piece.number in marked, active=piece.number == active)
        )
        open_pieces.append(piece)
    while open_pieces:
        at = _write(html, text, at, open_pieces.pop().end)
        html.append("</mark>")
    _write(html, text, at, len(text))
    return "".join(html)


def hue(label: str) -> int:
    """Return a label's colour as a hue in degrees, the same everywhere."""
    return int.from_bytes(hashlib.sha256(label.encode("utf-8", "surrogatepass")).digest()[:2]) % 360


def _pieces(entities: Sequence[Shown]) -> list[_Piece]:
    """Return the entities' pieces by start, longer ones first, so that each lies wholly in an earlier one or beside."""
    waiting = [(e.start, -e.end, number) for number, e in enumerate(entities)]
    heapq.heapify(waiting)
    around: list[int] = []  # where the open pieces end, the innermost last
    pieces = []
    while waiting:
        start, minus_end, number = heapq.heappop(waiting)
        end = -minus_end
        while around and around[-1] <= start:
            around.pop()
        if around and end > around[-1]:
            heapq.heappush(waiting, (around[-1], -end, number))
            end = around[-1]
        pieces.append(_Piece(start, end, number, last=end == entities[number].end))
        around.append(end)
    return pieces


def _opening(entity: Shown, piece: _Piece, *, marked: bool, active: bool) -> str:
    classes = ["entity", *(["marked"] if marked else []), *(["active"] if active else [])]
    label = f' data-label="{escape(entity.label)}"' if piece.last else ""
    return (
        f'<mark class="{" ".join(classes)}" style="--hue:{hue(entity.label)}" data-entity="{piece.number}"{label} '
        f'data-tip="{escape(entity.tip)}" tabindex="0">'
    )


def _write(html: list[str], text: str, start: int, end: int) -> int:
    """Write a part of the text; a carriage return or NUL would otherwise be changed or dropped by the browser."""
    html.append(escape(text[start:end]).replace("\r", "&#13;").replace("\0", "\ufffd"))
    return max(start, end)
