"""Fetches the jars of Apache Kafka from Maven Central, and finds the Java to run them."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["NodeError", "complete", "fetch", "find_java", "home", "is_fetched", "version"]

HERE: Final = Path(__file__).resolve().parent
OLDEST_JAVA: Final = 17
COMMAND_SECONDS: Final = 300.0


class NodeError(Exception):
    """Kafka could not be fetched, started or stopped; the message says what to do."""


def version() -> str:
    """Return the version of Apache Kafka in pom.xml."""
    found = re.search(r"<kafka\.version>(.+)</kafka\.version>", (HERE / "pom.xml").read_text("utf-8"))
    if found is None:
        raise NodeError(f"{HERE / 'pom.xml'} has no property kafka.version")
    return found[1]


def home() -> Path:
    """Return the jars' folder: ``$LETHE_KAFKA`` or ``lethe/kafka-VERSION`` in the user's cache folder."""
    if given := os.environ.get("LETHE_KAFKA"):
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "lethe" / f"kafka-{version()}"


def is_fetched() -> bool:
    """Return whether `home` contains the jars of the required version."""
    return (home() / f"kafka_2.13-{version()}.jar").is_file()


def find_java() -> str:
    """Return the path of ``java``, from ``$JAVA_HOME`` or else ``PATH``.

    Raises:
        NodeError: there is no ``java``, or it is older than Java 17.
    """
    java_home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{java_home}/bin") if java_home else shutil.which("java")
    if java is None:
        place = f"JAVA_HOME={java_home}" if java_home else "PATH"
        raise NodeError(
            f"Apache Kafka needs Java {OLDEST_JAVA} or later, and there is no java in {place} "
            "(Debian: apt install openjdk-17-jre-headless)"
        )
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    if found is None or int(found[1]) < OLDEST_JAVA:
        line = answer.stderr.strip().partition("\n")[0]
        raise NodeError(f"Apache Kafka needs Java {OLDEST_JAVA} or later, but {java} says: {line}")
    return java


def fetch() -> Path:
    """Fetch the jars from Maven Central unless they exist, and return `home`.

    Raises:
        NodeError: Maven or Java is missing, or Maven failed.
    """
    target = home()
    if is_fetched():
        return target
    maven = shutil.which("mvn")
    if maven is None:
        raise NodeError("fetching Apache Kafka needs Maven: no mvn in PATH (Debian: apt install maven)")
    find_java()
    target.parent.mkdir(parents=True, exist_ok=True)
    # Into a temporary folder first, so that an interrupted fetch leaves no incomplete `home`.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="kafka-") as part:
        jars = Path(part) / "jars"
        command = [maven, "--batch-mode", "--quiet", "--strict-checksums", f"--file={HERE / 'pom.xml'}"]
        command += ["dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
        complete(command, f"Maven could not fetch Apache Kafka {version()}")
        try:
            jars.rename(target)
        except OSError as taken:
            if not is_fetched():  # otherwise another process has fetched it meanwhile
                raise NodeError(f"{target} exists but is not Apache Kafka {version()}: delete it") from taken
    return target


def complete(command: list[str], failure: str) -> None:
    """Run a command; raises NodeError with its output if it fails or takes longer than five minutes."""
    try:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
            check=True,
        )
    except subprocess.CalledProcessError as failed:
        frames = ("\tat ", "\t... ")  # of a Java stack trace
        lines = [line for line in failed.stdout.splitlines() if line and not line.startswith(frames)]
        raise NodeError("\n".join([f"{failure}:", *lines])) from failed
    except subprocess.TimeoutExpired as late:
        raise NodeError(f"{failure} within {COMMAND_SECONDS:.0f} s") from late
