"""From a command line to one config."""
