"""A folder of part files as Spark writes it, which holds every id once, whatever is killed meanwhile."""
