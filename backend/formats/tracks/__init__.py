"""Formats of tracks through videos."""
