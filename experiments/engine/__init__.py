"""One run's training: built, stepped, evaluated."""
