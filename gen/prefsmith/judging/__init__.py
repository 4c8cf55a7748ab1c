"""Judges: what is asked about completions, and how an answer is read. Pure: no network, no database, no clock.

`leaf` holds the judge that asks a chat model, `parse` reads its replies, `show` lays out what it is shown,
`load` makes it from a TOML file, `verdicts` decides what follows a reply and joins two orders. Nothing is imported
here, so that a grader's worker process starts without what judges of models need.
"""
