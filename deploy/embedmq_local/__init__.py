"""The local stack: real Kafka, real Redis and workers, as processes that end with whoever started them."""

from __future__ import annotations
