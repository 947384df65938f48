"""How is the command line run where no `embedmq` is on the path? `python -m embedmq`."""

from __future__ import annotations

from embedmq.cli.root import main

main()
