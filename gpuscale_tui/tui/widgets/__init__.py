"""Widgets that draw lines themselves and fetch only what is on screen."""
