"""Write an explanation: the page ``explanation.html``, and ``explanation.json`` for scripts."""

from __future__ import annotations

from pathlib import Path

from l2s_nmt.explanation.page import render_page
from l2s_nmt.explanation.types import Explanation
from l2s_nmt.files import write_json, write_text


def write_explanation(explanation: Explanation, directory: Path) -> None:
    """Write both, each whole or not at all.

    Args:
        explanation: to be written.
        directory: made if missing.
    """
    page = render_page(explanation)
    write_json(directory / "explanation.json", explanation.to_json())
    write_text(directory / "explanation.html", page)
