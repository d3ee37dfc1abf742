"""Records on disk to tidy frames: which columns, which measurements, and how files are read."""
