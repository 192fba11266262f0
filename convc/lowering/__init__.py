"""The algorithms: what is computed, by which formula, at which price and with which error."""
