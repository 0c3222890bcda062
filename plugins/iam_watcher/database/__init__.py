"""A database as a job needs it: its session, transactions, catalogue, lock and load."""
