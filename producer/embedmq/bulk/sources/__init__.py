"""Where do rows come from? One module a kind, found by entry points of the group `embedmq.sources`.

`jsonl`, `csv`, `parquet`, `postgres` and `kafka` are the kinds. What they share is there for other sources too, which
`docs/adapters.md` shows how to write:

- `fields`: the row that a record's fields make, or why they make none; the columns that must be there
- `blocks`: rows and flaws gathered into blocks of bounded size
- `positions`: a place in a source as the checkpoint keeps it
- `files`, `lines`: which files an address names, and how they are read by lines from any of them on
"""
