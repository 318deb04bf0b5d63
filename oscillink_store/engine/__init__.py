"""Where disk meets mathematics: the store, ingest, search and verification."""
