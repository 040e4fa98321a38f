"""HTML comes from templates that escape what they are given and miss nothing silently."""

from importlib.resources import files
from pathlib import Path

import pytest
from jinja2 import Environment, UndefinedError, nodes

from lethe.files.html.templates import read_asset, render

PACKAGE = Path(str(files("lethe")))
TEMPLATES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.jinja"))
EVIL = """</dd><script>alert(1)</script>"'{{ 7 * 7 }}{% raw %}{#&"""


def test_every_value_is_escaped_and_none_is_read_as_a_template() -> None:
    html = render("report/glance.html.jinja", scores=[{"name": EVIL, "brief": "b", "value": "1"}])
    assert "<script" not in html
    assert "{{ 7 * 7 }}{% raw %}{#&amp;" in html
    assert "&#34;&#39;" in html


def test_a_value_in_an_attribute_cannot_leave_it() -> None:
    cell = {"own": False, "taught": True, "heat": EVIL, "percent": "1"}
    html = render(
        "report/matrix.html.jinja",
        matrix={"probes": [], "rows": [{"label": "", "cells": [cell]}], "compact": False},
    )
    assert html.count('"') == html.replace("&#34;", "").count('"')
    assert "<script" not in html


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="scores"):
        render("report/glance.html.jinja")


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_marks_nothing_as_safe_and_switches_no_escaping_off(template: str) -> None:
    tree = Environment(autoescape=True).parse(read_asset(template))
    assert "safe" not in {found.name for found in tree.find_all(nodes.Filter)}
    assert not list(tree.find_all((nodes.EvalContextModifier, nodes.ScopedEvalContextModifier)))


def test_the_templates_are_those_of_the_pages() -> None:
    pages = {"audit", "page", "report", "scoreboard"}
    assert pages <= {Path(template).name.removesuffix(".html.jinja") for template in TEMPLATES}
