"""The live view of a fleet: statuses become a view (pure), the view becomes text, Textual shows it."""
