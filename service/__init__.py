"""Lethe learns online from a Kafka stream and shows what it is forgetting.

::

    producers                         service
    dataset ─► scenario ─► replay ─► [Kafka topic] ─► source ─► wire.decode ─► batch
                                                                                │
                                                                                ▼
                                                                predict ─► learn ─► discard
                                                                                │
                                                                                ▼
                                 probes ─► evaluate ─► events ─► metrics ─► Prometheus

A sample goes down this road once and in one direction; nothing upstream imports anything
downstream. The package itself imports nothing.
"""
