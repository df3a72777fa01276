"""What the pages on own data show is valid: every entry as it stands there, and every link."""

import re
from pathlib import Path

import pytest
import yaml

from tasks.parameters import read_application
from tests.scratch import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
PAGES = [ROOT / "docs" / "your-data.md", *sorted((ROOT / "docs" / "data").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_entry_can_be_copied(page: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(), flags=re.DOTALL)
    entries = [block for block in blocks if re.search(r"^    recipe:", block, flags=re.MULTILINE)]
    assert entries, "a page shows at least one whole entry"
    for block in entries:
        for name, entry in yaml.safe_load(block).items():
            read_application(name, entry)


def test_every_recipe_has_a_page() -> None:
    shown = {recipe for page in PAGES for recipe in re.findall(r"recipe: `?(\w+)", page.read_text())}
    recipes = {path.stem for path in (ROOT / "recipes").glob("*.py")} - {"recipe", "__init__"}
    assert recipes <= shown


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.stem)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
