"""Processes, cores, memory and signals. Standard library only."""
