"""Adapters to other frameworks, over the public surface alone."""
