"""How do the parts become a running worker, and how does it stop? The only place that knows them all."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from aiokafka.errors import KafkaError
from embedmq_schemas.names import Names
from embedmq_schemas.requests import LANES

from embedmq_worker.catalogue import Catalogue
from embedmq_worker.choose import budget
from embedmq_worker.config import Config
from embedmq_worker.decode import Decoder
from embedmq_worker.delivery import Delivery
from embedmq_worker.engine.load import load
from embedmq_worker.engine.seam import Engine
from embedmq_worker.errors import Unreachable
from embedmq_worker.health import Endpoint, Health
from embedmq_worker.logs import configure
from embedmq_worker.meter import Meter
from embedmq_worker.metrics import Metrics
from embedmq_worker.plan import Planner
from embedmq_worker.redis_sink import RedisSink, connect, wait_reachable
from embedmq_worker.road import Road
from embedmq_worker.room import Room
from embedmq_worker.source import Source
from embedmq_worker.topic_sink import TopicSink
from embedmq_worker.topics import Topics, ensure, request_topics
from embedmq_worker.waiting import Waiting

BEAT_S = 1.0

log = logging.getLogger(__name__)
