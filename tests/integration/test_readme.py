"""What the README shows works as it stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT, command, done, read_lines, tiny_recipe, write_recipe

README = (ROOT / "README.md").read_text(encoding="utf-8")
OWN_FILES = dict(re.findall(r'```python\n("""(my_\w+)\.py: .*?)```', README, re.DOTALL))
OVERRIDES = re.findall(r"'(search\.\w+=\{name: own, .*?\})'", README)


def test_a_cost_a_loss_and_a_reference_of_ones_own(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: text for text, name in OWN_FILES.items()}
    assert set(files) == {"my_cost", "my_loss", "my_reference"}
    assert len(OVERRIDES) == 3
    for name, text in files.items():
        assert len(text.splitlines()) < 20
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    path = write_recipe(
        tmp_path / "recipe.yaml",
        tiny_recipe(corpus, search={"algorithm": "lols"}, training={"max_updates": 3, "log_every": 1}),
    )
    done(command("train", path, *OVERRIDES, "--output", tmp_path / "run"))
    lines = [line for line in read_lines(tmp_path / "run" / "metrics.jsonl") if line["kind"] == "train"]
    assert all(line["roll_outs"] > 0 and line["search_loss"] > 0 for line in lines)


def test_every_recipe_it_names_is_there() -> None:
    named = set(re.findall(r"recipes/[\w/]+\.yaml", README))
    assert named
    assert all((ROOT / name).is_file() for name in named)


PAGES = [ROOT / "README.md", *sorted((ROOT / "recipes").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = prose(page)
    named = dict(re.findall(r"^\[([^\]]+)\]: (\S+)", text, re.MULTILINE))
    assert set(re.findall(r"\]\[([^\]]+)\]", text)) <= named.keys()
    for link in {*re.findall(r"\]\(([^)\s]+)\)", text), *named.values()}:
        if link.startswith("http"):
            continue
        path, _, heading = link.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), link
        assert not heading or heading in headings(there), link


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def headings(page: Path) -> set[str]:
    """The anchors that a page has when it is shown."""
    titles = re.findall(r"^#+ (.*)", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
