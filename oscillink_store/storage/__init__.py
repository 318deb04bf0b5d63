"""Arrow, Lance and files: what lies on disk and how it is committed; knows no mathematics."""
