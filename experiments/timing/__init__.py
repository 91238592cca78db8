"""How long a step takes on this machine."""
