"""The worker: from a record on a Kafka topic to a result its caller can use."""
