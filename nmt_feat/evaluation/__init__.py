"""Scores of translations: metrics, translation of test sets, contrastive suites."""
