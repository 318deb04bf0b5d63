"""SQL text of the DuckDB binding, read as package resources."""
