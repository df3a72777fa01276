"""Ratings: who gave which thing how many points."""
