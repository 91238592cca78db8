"""From run records to tables, figures and one page; reads records only, and never imports torch."""
