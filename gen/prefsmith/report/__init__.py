"""A benchmark's report as people read it: a table for the terminal, a page with plots, files. It counts nothing."""
