"""For people who look after locks: see who holds one, and release one by force."""
