"""What all sections of the comparison page are built from."""

from __future__ import annotations

from collections.abc import Sequence

from l2s_nmt.evaluation.curves import draw_marker
from l2s_nmt.evaluation.texts import html_text
from l2s_nmt.evaluation.types import SystemResult


def name_of(number: int, system: SystemResult) -> str:
    """The marker and the name of a system, by its number in the report."""
    marker = f'<svg class="key" viewBox="0 0 16 16" aria-hidden="true">{draw_marker(number)}</svg>'
    return marker + html_text(system.name)


def section(heading: str, content: str) -> str:
    """A part of the page under a heading, both HTML."""
    return f"<section><h2>{heading}</h2>{content}</section>"


def html_table(
    key: str, caption: str, header: Sequence[str], rows: Sequence[tuple[str, Sequence[Sequence[str]]]]
) -> str:
    """Lay out a table from HTML: its id, its caption, and for each system its name and one or more lines."""
    columns = "".join(f'<th scope="col">{name}</th>' for name in ("System", *header))
    groups = []
    for head, lines in rows:
        span = f' scope="rowgroup" rowspan="{len(lines)}"' if len(lines) > 1 else ' scope="row"'
        cells = "</tr><tr>".join("".join(f"<td>{cell}</td>" for cell in line) for line in lines)
        groups.append(f"<tbody><tr><th{span}>{head}</th>{cells}</tr></tbody>")
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{key}">'
        f'<table><caption id="{key}">{caption}</caption>'
        f"<thead><tr>{columns}</tr></thead>{''.join(groups)}</table></div>"
    )
