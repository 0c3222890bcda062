"""docker-compose.yaml with Docker (`make compose`), or in an engine of its own (`make compose-test`)."""
