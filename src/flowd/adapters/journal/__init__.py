"""Journals: on disk (`file`) and without one (`memory`)."""
