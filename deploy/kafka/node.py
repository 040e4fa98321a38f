"""Apache Kafka without Docker: fetches it with Maven and runs one KRaft node on 127.0.0.1.

Uses the standard library only, so that it runs without a virtual environment::

    python deploy/kafka/node.py fetch
    python deploy/kafka/node.py run --port 9092 --dir .kafka --property log.retention.ms=60000
"""

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a script, without an environment

from deploy.kafka.jars import NodeError, fetch
from deploy.kafka.kraft import KafkaNode

__all__ = ["main", "pair"]


def pair(text: str) -> tuple[str, str]:
    """Parse NAME=VALUE; raises argparse.ArgumentTypeError for anything else."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def _run(node: KafkaNode) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end as KeyboardInterrupt
    try:
        with node:
            print(node.bootstrap_servers, flush=True)
            raise NodeError(f"Kafka ended with status {node.wait()}; see {node.log}")
    except KeyboardInterrupt:
        return


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="node.py", description="Apache Kafka without Docker.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="fetch the jars with Maven into $LETHE_KAFKA or ~/.cache/lethe")
    run = commands.add_parser("run", help="run one node on 127.0.0.1 until SIGTERM or Ctrl-C")
    run.add_argument("--port", type=int, default=9092)
    run.add_argument("--dir", type=Path, required=True, help="folder of the data, kept across restarts")
    run.add_argument("--property", type=pair, action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    try:
        if arguments.command == "fetch":
            print(fetch())
        else:
            _run(KafkaNode(arguments.dir, port=arguments.port, properties=dict(arguments.property)))
    except NodeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
