"""Whatever dies: is every accepted request answered once, and rightly? `python -m tests.faults` tries to prove not."""
