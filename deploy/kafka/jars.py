"""The jars of Apache Kafka, from Maven Central, and the Java to run them with."""

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
    """The version of Apache Kafka that pom.xml asks for."""
    found = re.search(r"<kafka\.version>(.+)</kafka\.version>", (HERE / "pom.xml").read_text("utf-8"))
    if found is None:
        raise NodeError(f"{HERE / 'pom.xml'} names no kafka.version")
    return found[1]


def home() -> Path:
    """Where the jars are kept: ``$LETHE_KAFKA``, else ``lethe/kafka-VERSION`` in the user's cache folder."""
    if given := os.environ.get("LETHE_KAFKA"):
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "lethe" / f"kafka-{version()}"


def is_fetched() -> bool:
    """Whether the jars of the wanted version are in `home`."""
    return (home() / f"kafka_2.13-{version()}.jar").is_file()


def find_java() -> str:
    """The ``java`` to run: of ``$JAVA_HOME``, else of the path.

    Raises:
        NodeError: there is none, or it is older than Java 17.
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
        told = answer.stderr.strip().partition("\n")[0]
        raise NodeError(f"Apache Kafka needs Java {OLDEST_JAVA} or later, but {java} says: {told}")
    return java


def fetch() -> Path:
    """Fetch the jars from Maven Central unless they are there; returns `home`.

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
    # Into a folder of its own first: an interrupted fetch must not pass for a finished one.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="kafka-") as part:
        jars = Path(part) / "jars"
        command = [maven, "--batch-mode", "--quiet", "--strict-checksums", f"--file={HERE / 'pom.xml'}"]
        command += ["dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
        complete(command, f"Maven could not fetch Apache Kafka {version()}")
        try:
            jars.rename(target)
        except OSError as taken:
            if not is_fetched():  # else somebody fetched it at the same time
                raise NodeError(f"{target} is in the way: it is not Apache Kafka {version()}") from taken
    return target


def complete(command: list[str], failure: str) -> None:
    """Run a command to its end; what it prints goes into the error, if it comes to one."""
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
        told = [line for line in failed.stdout.splitlines() if line and not line.startswith(frames)]
        raise NodeError("\n".join([f"{failure}:", *told])) from failed
    except subprocess.TimeoutExpired as late:
        raise NodeError(f"{failure}: no end within {COMMAND_SECONDS:.0f} s") from late
