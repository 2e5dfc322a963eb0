"""Pages inside the page of a notebook."""

from __future__ import annotations

from hypothesis import given

from l2s_nmt.notebook import framed
from tests.pages import FOREIGN, Page


@given(FOREIGN)
def test_the_page_is_whole_and_stays_in_its_frame(page: str) -> None:
    shown = Page(framed(page))
    (frame,) = shown.all("iframe")
    assert len(shown.tags) == 1
    assert shown.text == []
    assert frame["srcdoc"] == page
    assert frame["sandbox"] == "allow-scripts", "not its origin, not the notebook"
