"""Kafka: connections, the source of records, dead letters and purges."""
