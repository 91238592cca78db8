"""What the suite says of itself beside the displays of its runs."""

import logging


def show_log() -> None:
    """Show the suite's own remarks on standard error; of the libraries' only warnings."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("experiments").setLevel(logging.INFO)
