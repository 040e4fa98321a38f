"""Adds what is generated to the site: reference pages, pictures, tables, and the documents of the root."""

import re
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.generate import ROOT, pages, rooms_table, scores_table
from docs.notebook import notebook_markdown
from docs.pictures import PICTURES

__all__ = ["on_files", "on_page_markdown"]

TABLES: Final = {"rooms": rooms_table, "scores": scores_table}
ROOT_DOCUMENTS: Final = ("CHANGELOG.md", "CONTRIBUTING.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return ``files`` with the pages that are not in the folder."""
    texts = dict(pages())
    for name in ROOT_DOCUMENTS:
        texts[name.lower()] = (ROOT / name).read_text().replace("(docs/pages/", "(")
    for notebook in sorted((ROOT / "docs" / "pages").rglob("*.ipynb")):
        page = notebook.relative_to(ROOT / "docs" / "pages").with_suffix(".md")
        texts[page.as_posix()] = notebook_markdown(notebook)
    for path, text in texts.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Return the page with each ``<!-- picture: NAME -->`` and ``<!-- table: NAME -->`` replaced.

    Sections of the runbook also get their alert's name as an anchor: a dashboard cannot change its case.
    """
    if page.file.src_uri == "runbook.md":
        markdown = re.sub(r"^## (Lethe\w+)$", r'<a id="\1"></a>\n\n\g<0>', markdown, flags=re.MULTILINE)
    drawn = re.sub(r"<!-- picture: (\w+) -->", lambda found: PICTURES[found[1]], markdown)
    return re.sub(r"<!-- table: (\w+) -->", lambda found: TABLES[found[1]](), drawn)
