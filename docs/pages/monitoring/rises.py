"""How does a query see that a counter rose?"""

from __future__ import annotations


def risen(counter: str, window: str) -> str:
    """By how much each series rose within a window. `increase` sees nothing of what a series begins with, and many
    begin with a failure: of a label that is new, or before the worker was scraped for the first time.
    """
    return f"(increase({counter}[{window}]) > 0 or ({counter} > 0 unless {counter} offset {window}))"
