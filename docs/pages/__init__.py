"""What makes the generated pages: one module a page, each with `page()`, which returns its text."""
