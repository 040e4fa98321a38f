"""Producers: data set streams whose subject changes midway, replayed into a Kafka topic."""
