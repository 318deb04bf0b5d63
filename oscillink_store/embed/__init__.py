"""Embedders: one protocol and the adapters to it."""
