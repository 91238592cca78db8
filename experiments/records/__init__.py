"""What lies on the disk. Standard library only."""
