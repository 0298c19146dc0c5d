"""Helpers of the tests: tiny corpora, runs, models, commands."""
