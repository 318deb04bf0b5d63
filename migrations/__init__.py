"""Migrations between on-disk format versions, one frozen module each."""
