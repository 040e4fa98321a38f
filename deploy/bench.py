"""Measures what the stream costs on real Apache Kafka, which it starts on this machine for that."""

import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.kafka.jars import NodeError, fetch
from deploy.kafka.kraft import KafkaNode

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run ``lethe bench pipeline`` with ``arguments`` through a fresh broker; return its exit status."""
    try:
        fetch()
        with tempfile.TemporaryDirectory() as folder, KafkaNode(Path(folder) / "kafka") as node:
            command = [sys.executable, "-m", "service.cli", "bench", "pipeline"]
            return subprocess.run(
                [*command, "--broker", node.bootstrap_servers, *arguments], check=False
            ).returncode
    except NodeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
