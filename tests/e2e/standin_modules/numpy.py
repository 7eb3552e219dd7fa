"""A module of this name."""
