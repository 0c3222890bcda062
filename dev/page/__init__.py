"""Watchers with an invented past, for pictures, browser tests and measurements of the Watchers page."""
