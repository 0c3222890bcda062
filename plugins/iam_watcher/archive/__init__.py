"""Rows that are kept before they are deleted: how they are written, stored, read and restored."""
