"""The gate of tests/support/components.py, seen from outside: pytest runs on files of its own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]


def run(folder: Path, body: str, **environment: str) -> str:
    """Run pytest with this project's settings on one file; PATH is empty, so no program is found."""
    (folder / "test_given.py").write_text("import pytest\n" + textwrap.dedent(body))
    options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-c", "pyproject.toml"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(folder / "test_given.py")],
        cwd=CHECKOUT,
        env={"PATH": "", "HOME": os.environ["HOME"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


NEEDS_KCAT = """
    @pytest.mark.needs("kcat")
    def test_with_kcat(): pass

    def test_without(): pass
"""


def test_only_the_test_that_needs_a_missing_component_is_skipped_and_says_why(tmp_path: Path) -> None:
    printed = run(tmp_path, NEEDS_KCAT)
    assert "1 passed, 1 skipped" in printed
    assert "needs kcat: no kcat in PATH" in printed


@pytest.mark.parametrize("required", ["all", pytest.param("kafka, kcat", marks=pytest.mark.long)])
def test_a_required_component_that_is_missing_fails_its_test(tmp_path: Path, required: str) -> None:
    printed = run(tmp_path, NEEDS_KCAT, LETHE_TEST_REQUIRE=required)
    assert "1 passed, 1 error" in printed
    assert "LETHE_TEST_REQUIRE names kcat, which is missing: no kcat in PATH" in printed


def test_a_component_that_is_not_required_is_still_skipped(tmp_path: Path) -> None:
    assert "1 passed, 1 skipped" in run(tmp_path, NEEDS_KCAT, LETHE_TEST_REQUIRE="prometheus")


@pytest.mark.long
def test_a_test_runs_when_what_it_needs_is_there(tmp_path: Path) -> None:
    program = tmp_path / "kcat"
    program.touch(mode=0o755)
    assert "2 passed" in run(tmp_path, NEEDS_KCAT, PATH=str(tmp_path), LETHE_TEST_REQUIRE="all")


def test_a_fixture_that_needs_a_component_is_gated_without_a_mark(tmp_path: Path) -> None:
    body = "def test_both(broker): assert broker.kind == 'embedded'"
    printed = run(tmp_path, body, LETHE_KAFKA=str(tmp_path / "jars"))
    assert "1 passed, 1 skipped" in printed
    assert "needs kafka: Apache Kafka needs Java 17 or later" in printed


def test_an_unknown_component_stops_the_run(tmp_path: Path) -> None:
    printed = run(tmp_path, "@pytest.mark.needs('kafak')\ndef test_it(): pass")
    assert "test_it needs kafak; known are kafka, embedded" in printed
    printed = run(tmp_path, "def test_it(): pass", LETHE_TEST_REQUIRE="kafak")
    assert "LETHE_TEST_REQUIRE names kafak; known are all, kafka" in printed
