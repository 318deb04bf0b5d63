"""Clusters: a catalogue of stores that a placement rule fills, and the executors that run them."""
