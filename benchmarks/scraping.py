"""What does a worker say of itself on its metrics page?"""

from __future__ import annotations

import urllib.request
from collections import defaultdict
from collections.abc import Mapping

from embedmq_local.worker import Worker
from prometheus_client.parser import text_string_to_metric_families


def scrape(worker: Worker) -> Mapping[str, float]:
    """Each sample by its name, summed over its labels; 0 for what it does not say."""
    with urllib.request.urlopen(f"http://{worker.http}/metrics") as answer:
        text: str = answer.read().decode()
    found: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] += sample.value
    return found
