"""What makes the pages that are generated, and the pages."""
