"""How this process came to be, which a run's record tells."""

started = "fresh"
"""``fresh``: by exec, as a new interpreter; ``forked``: from one that had loaded what it needs."""
