"""Rows in a state: claims of pending rows, their renewal and their outcomes. Plain Python."""
