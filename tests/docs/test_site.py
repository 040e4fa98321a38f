"""The site builds without a warning, needs nothing from elsewhere, and names only what exists."""

import importlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from docs.generate import ROOT, pages
from tests.support.documents import DOCUMENTS, prose
from tests.support.monitoring import dashboards, exported, panels


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site."""
    folder = tmp_path_factory.mktemp("site")
    build(folder)
    return folder


def build(folder: Path, **variables: str) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-f", "docs/mkdocs.yml"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", **variables}
    done = subprocess.run(
        [*command, "-d", str(folder)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Loaded(HTMLParser):
    """Every address that a page makes a browser load, and every link in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in {"script", "img", "iframe"} and (address := values.get("src")):
            self.loaded.append(address)
        if tag == "link" and values.get("rel") not in {"canonical", "next", "prev"}:
            self.loaded.append(values.get("href") or "")
        if tag == "a" and (address := values.get("href")):
            self.links.append(address)


def test_a_page_loads_nothing_from_elsewhere_and_its_links_lead_somewhere(site: Path) -> None:
    broken = []
    for page in sorted(site.rglob("*.html")):
        parsed = Loaded(page)
        assert [address for address in parsed.loaded if urlsplit(address).netloc] == [], page
        for address in (*parsed.loaded, *parsed.links):
            parts = urlsplit(address)
            if not parts.netloc and parts.path and page.name != "404.html":
                target = page.parent / parts.path
                if not target.exists():
                    broken.append(f"{page.relative_to(site)}: {address}")
    assert broken == []


@pytest.mark.long
def test_generated_pages_are_the_same_in_every_build(site: Path, tmp_path: Path) -> None:
    build(tmp_path, PYTHONHASHSEED="1", COLUMNS="40", TERM="dumb")
    for page in sorted(site.glob("reference/*.html")):
        again = tmp_path / page.relative_to(site)
        assert again.read_text() == page.read_text(), page.name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_names_that_a_document_mentions_exist(document: Path) -> None:
    text = prose(document)
    paths = re.findall(r"(?<![\w/.])(?:service|producers|deploy|tests|docs)/[\w./+-]*\w/?", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    names = set(re.findall(r"`((?:lethe|lethe_producers)(?:\.\w+)+)", text)) - {"lethe.example"}
    assert [name for name in sorted(names) if not _exists(name)] == []


def _exists(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        owner, _, attribute = name.rpartition(".")
        return hasattr(importlib.import_module(owner), attribute)
    return True


def test_the_metrics_page_has_the_labels_of_a_metric() -> None:
    rows = dict(pages())["reference/metrics.md"].splitlines()
    labels = {row.split("`")[1]: row.split(" | ")[2] for row in rows if row.startswith("| `")}
    assert labels["lethe_samples_dead_lettered_total"] == "`reason`"
    assert labels["lethe_partition_offset"] == "`partition`"
    assert labels["lethe_build_info"] == "`version`, `learner`, `retains`, `torch`, `python`"
    assert labels["lethe_step_duration_seconds"] == labels["lethe_samples_learned_total"] == ""


def test_links_of_the_documents_outside_of_the_site_lead_somewhere() -> None:
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"):
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
            assert urlsplit(link).netloc or (ROOT / link).exists(), f"{document.name}: {link}"


def test_the_readme_is_read_in_two_minutes() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_panels_that_the_runbook_quotes_exist() -> None:
    quoted = re.findall(r'"([^"]+)"', prose(ROOT / "docs" / "pages" / "runbook.md"))
    titles = {panel["title"] for dashboard in dashboards() for panel in panels(dashboard)}
    assert quoted
    assert [name for name in quoted if name not in titles] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_metrics_that_a_document_mentions_exist(document: Path) -> None:
    series = {name for names in exported().values() for name in names}
    known = {"lethe_producers", *exported(), *series}
    assert set(re.findall(r"\blethe_\w*[a-z]\b", prose(document))) <= known
