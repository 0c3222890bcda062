"""A cluster that loses parts: `make chaos`."""
