"""Topics of records of which some have no label, and topics for the labels of these."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from kafka import KafkaProducer

from deploy.kafka.kraft import KafkaNode
from lethe.privacy.audit.ledger import read_entries
from lethe.privacy.audit.receipt_writer import LEDGER
from tests.support.brokers import of_kafka
from tests.support.faults.topics import PARTITIONS, Fill, Outgoing

__all__ = ["LateLabels", "joined_in"]


class LateLabels:
    """The records of ``whole``, in a topic without the labels of those whose numbers are in ``missing``.

    The key of a label is the number of its record.
    """

    def __init__(
        self,
        kafka_node: KafkaNode,
        fill: Fill,
        topic: str,
        whole: Sequence[Outgoing],
        missing: Collection[int],
        partitions: int = PARTITIONS,
    ) -> None:
        self._node, self._whole, unlabelled = kafka_node, whole, set(missing)
        self.topic = f"{topic}.labels"
        """The topic for labels, which is yet to be created."""
        records = [
            (value, [header for header in headers if header[0] != "label" or number not in unlabelled])
            for number, (value, headers) in enumerate(whole)
        ]
        self.stage = fill(topic, records, partitions)

    def create_topic(self, partitions: int) -> None:
        of_kafka(self._node).create_topic(self.topic, partitions)

    def send(
        self, numbers: Sequence[int], partition_of: Callable[[int], int | None] = lambda number: None
    ) -> None:
        """Send the labels of these records, to the partitions that ``partition_of`` gives, or to any."""
        with KafkaProducer(bootstrap_servers=self._node.bootstrap_servers) as producer:
            sent = [
                producer.send(
                    self.topic,
                    key=b"%d" % number,
                    value=dict(self._whole[number][1])["label"],
                    partition=partition_of(number),
                )
                for number in numbers
            ]
            for future in sent:
                future.get(timeout=60)

    def send_without_key(self, count: int) -> None:
        """Send labels of no sample."""
        with KafkaProducer(bootstrap_servers=self._node.bootstrap_servers) as producer:
            for _ in range(count):
                producer.send(self.topic, value=b"1").get(timeout=60)


def joined_in(state: Path) -> int:
    """How many samples were learned with a late label, as the receipts in a state folder say."""
    return sum(entry.receipt.joined for entry in read_entries(state / LEDGER))
