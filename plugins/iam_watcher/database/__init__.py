"""The database that a job works on: connection, session, catalogue, transactions, database lock, throttle."""
