"""convc: a compiler for convolutional networks."""
