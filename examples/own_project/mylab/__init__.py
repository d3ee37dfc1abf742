"""Components of one's own for samsweep."""
