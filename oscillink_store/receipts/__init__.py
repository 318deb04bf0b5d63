"""Receipts: canonical bytes, the hash chain and its verification, without disk."""
