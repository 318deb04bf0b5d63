"""Several stores searched as if they were one, each in whatever process an executor gives it."""
