"""A benchmark of judges: pairs with gold labels, read from the files that people have, and the verdicts on them."""
