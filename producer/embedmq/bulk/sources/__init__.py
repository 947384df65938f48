"""Where rows come from: one small module a kind, found by entry points of the group `embedmq.sources`."""
