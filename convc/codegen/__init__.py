"""Machine code: scheduled kernels become objects, objects and weights one module file."""
