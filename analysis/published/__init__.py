"""The published numbers, how they were run, and a verdict on each: published beside reproduced."""
