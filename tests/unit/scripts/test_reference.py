"""The API reference is complete, and made without a complaint."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import l2s_nmt
from tests.helpers import ROOT

pytest.importorskip("pdoc")


def test_every_module_and_every_public_name_has_its_place(tmp_path: Path) -> None:
    from scripts.reference import write_reference

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        write_reference(tmp_path)
    modules = {
        str(path.relative_to(ROOT).with_suffix("")).removesuffix("/__init__")
        for path in (ROOT / "l2s_nmt").rglob("*.py")
        if path.name != "__main__.py"
        and path.parent.name != "embedded"  # which shows a chosen few of its names
    }
    pages = {str(page.relative_to(tmp_path).with_suffix("")) for page in tmp_path.rglob("*.html")}
    assert modules <= pages
    assert len(modules) > 100
    front = (tmp_path / "l2s_nmt.html").read_text()
    assert all(f'id="{name}"' in front for name in l2s_nmt.__all__)
    assert "Translations of sentences with a run, in their order" in front
