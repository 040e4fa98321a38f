"""Runs ``lethe bench pipeline`` against an Apache Kafka node that it starts on this machine."""

import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.kafka.jars import NodeError, fetch
from deploy.kafka.kraft import KafkaNode

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run the benchmark with ``arguments`` on a new broker and return its exit status."""
    try:
        fetch()
        with tempfile.TemporaryDirectory() as folder, KafkaNode(Path(folder) / "kafka") as node:
            command = [sys.executable, "-m", "lethe", "bench", "pipeline"]
            return subprocess.run(
                [*command, "--broker", node.bootstrap_servers, *arguments], check=False
            ).returncode
    except NodeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
