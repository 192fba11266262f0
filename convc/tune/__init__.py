"""Tuning: what to try, how to time it safely, how to remember it."""
