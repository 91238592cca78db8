"""The report: every table and figure, as files, as a page and as a paper."""
