"""Records made again, and compared."""
