"""What figures share: panels, curves, dependences, and what stands where runs are missing."""
