"""Decisions: at which states of the roll-in the search looks, and which next tokens it tries there."""
