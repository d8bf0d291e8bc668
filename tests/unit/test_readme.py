"""README and docs name only what exists."""

import re
from pathlib import Path

import typer.main
import yaml

from amalgam.cli import app
from amalgam.params import dump_tracked, load_params
from amalgam.report.content import flatten

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)


def test_sentences_and_pages_name_only_params_that_exist() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    sections = {name: values for name, values in params.items() if isinstance(values, dict)}
    pattern = re.compile(rf"`({'|'.join(sections)})\.(\w+)[`:]")
    pages = [page for page in PAGES if page.name != "findings.md"]  # that page names params that were removed
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "stages").glob("*.py"), *(ROOT / "src").rglob("*.j2")]
    found = [(page.name, *name) for page in [*pages, *sources] for name in pattern.findall(page.read_text("utf-8"))]
    assert len(found) > 100
    assert [one for one in found if one[2] not in sections[one[1]]] == []
    set_by_commands = set(re.findall(r"-S ([\w.]+)=", TEXT))
    assert set_by_commands
    assert set_by_commands <= flatten(dump_tracked(load_params(ROOT / "params.yaml"))).keys()


def test_its_commands_are_known() -> None:
    known = typer.main.get_group(app).commands
    named = set(re.findall(r"^\s*(?:\$ )?amalgam (\w+)", TEXT, re.MULTILINE))
    assert named
    assert named <= known.keys()


def test_its_links_lead_somewhere() -> None:
    pattern = re.compile(r"\]\(((?!https?:)[^)#]+)\)")
    links = [(page, link) for page in PAGES for link in pattern.findall(page.read_text("utf-8"))]
    assert links
    assert [(page.name, link) for page, link in links if not (page.parent / link).is_file()] == []
