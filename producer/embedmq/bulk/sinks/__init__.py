"""Where vectors go: one small module a kind, found by entry points of the group `embedmq.sinks`."""
