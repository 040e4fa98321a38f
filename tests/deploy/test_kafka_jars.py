"""Errors of deploy/kafka if Apache Kafka cannot be fetched or run."""

from pathlib import Path

import pytest

from deploy.kafka import jars
from deploy.kafka.jars import NodeError


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Only the programs that a test puts into the folder returned are found."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("LETHE_KAFKA", str(tmp_path / "cache" / "jars"))
    return tmp_path / "bin"


def java(folder: Path, version: str) -> None:
    program(folder, "java", f"echo 'openjdk version \"{version}\"' >&2")


def maven_that_copies(folder: Path, jar: str) -> None:
    find_target = "for a; do case $a in -DoutputDirectory=*) d=${a#*=};; esac; done"
    program(folder, "mvn", f'{find_target}\n/bin/mkdir "$d" && : > "$d/{jar}"')


def test_a_missing_java_is_named_with_what_to_install() -> None:
    with pytest.raises(NodeError, match=r"needs Java 17 or later.* no java in PATH .*apt install openjdk"):
        jars.find_java()


def test_java_home_is_asked_before_the_path(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java(bare_machine, "21.0.2")
    assert jars.find_java() == str(bare_machine / "java")
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(NodeError, match="no java in JAVA_HOME=/nowhere"):
        jars.find_java()


@pytest.mark.parametrize("version", ["1.8.0_292", "11.0.2", "16"])
def test_an_old_java_is_refused_with_its_version(bare_machine: Path, version: str) -> None:
    java(bare_machine, version)
    with pytest.raises(NodeError, match=f'Java 17 or later, but .*/java says: openjdk version "{version}"'):
        jars.find_java()


@pytest.mark.parametrize("version", ["17", "17.0.15", "25-ea"])
def test_a_new_enough_java_is_taken(bare_machine: Path, version: str) -> None:
    java(bare_machine, version)
    assert jars.find_java() == str(bare_machine / "java")


def test_a_missing_maven_is_named_with_what_to_install() -> None:
    with pytest.raises(NodeError, match=r"needs Maven: no mvn in PATH .*apt install maven"):
        jars.fetch()


def test_what_maven_printed_is_in_the_error_and_nothing_is_left(bare_machine: Path) -> None:
    java(bare_machine, "17")
    program(bare_machine, "mvn", "echo Could not transfer artifact; exit 1")
    with pytest.raises(NodeError, match=r"could not fetch Apache Kafka [\d.]+:\nCould not transfer artifact"):
        jars.fetch()
    assert list(jars.home().parent.iterdir()) == []


def test_jars_are_fetched_once(bare_machine: Path) -> None:
    java(bare_machine, "17")
    maven_that_copies(bare_machine, f"kafka_2.13-{jars.version()}.jar")
    assert not jars.is_fetched()
    assert jars.fetch() == jars.home()
    assert jars.is_fetched()
    (bare_machine / "mvn").unlink()
    assert jars.fetch() == jars.home()


def test_a_folder_with_something_else_is_not_overwritten(bare_machine: Path) -> None:
    java(bare_machine, "17")
    maven_that_copies(bare_machine, f"kafka_2.13-{jars.version()}.jar")
    jars.home().mkdir(parents=True)
    (jars.home() / "mine").touch()
    with pytest.raises(NodeError, match="exists but is not Apache Kafka"):
        jars.fetch()
    assert [file.name for file in jars.home().iterdir()] == ["mine"]


def test_the_cache_folder_names_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LETHE_KAFKA")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert jars.home() == Path("/cache/lethe") / f"kafka-{jars.version()}"
