"""The walk over a table in chunks: which rows come next, how many, and how they are written."""
