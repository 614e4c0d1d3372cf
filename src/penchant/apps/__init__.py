"""Whole tasks built only from the rooms; no mathematics of its own lives here."""
