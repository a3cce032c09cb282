"""The planned results: which cells there are, training those that are missing, and their page."""
