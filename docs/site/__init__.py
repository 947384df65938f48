"""How do the pages of `docs/` become a site? `make docs` builds it into `build/site`."""
