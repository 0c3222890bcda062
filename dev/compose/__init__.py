"""`make compose`: docker-compose.yaml, built and started with Docker."""
