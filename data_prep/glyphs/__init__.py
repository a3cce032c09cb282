"""Letters drawn from the DejaVu fonts that matplotlib ships: a dataset that needs no download."""
