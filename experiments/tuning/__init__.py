"""The parts of tuning: search spaces, studies that resume, early stopping of trials, ledgers."""
