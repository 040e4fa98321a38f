"""Replays data sets into a Kafka topic as streams whose subject changes."""
