"""Frontends: models in, graphs out."""
