"""Pages in notebooks."""

from __future__ import annotations

from html import escape


def framed(page: str) -> str:
    """A whole page inside another one, where neither's styles and scripts reach the other."""
    return (
        f'<iframe srcdoc="{escape(page)}" sandbox="allow-scripts" title="l2s_nmt" '
        'style="width: 100%; height: 48rem; border: 0"></iframe>'
    )
