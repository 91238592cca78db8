"""Tasks: a data set, its fixed splits, its metric and its batches."""
