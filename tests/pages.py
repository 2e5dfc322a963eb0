"""Pages as a browser sees them, and text that means them harm."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import strategies as st

HOSTILE = "</bdi><script>alert(1)</script> \u202elive\x1b[31m \x00&amp; \"'|`_*\u2028"
_POWERFUL = (
    "<script>",
    "</title>",
    "-->",
    "]]>",
    "&lt;",
    '"',
    "'",
    "\u202e",
    "\u2067",
    "|",
    "`",
    "](x)",
    "\n",
    "\ud800",
)
FOREIGN = st.lists(st.sampled_from(_POWERFUL) | st.text(max_size=4), max_size=5).map("".join)
_VOID = {"meta", "path", "rect", "circle", "polyline", "input"}


class Page(HTMLParser):
    """Collects what a browser would see, and refuses elements that are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]
