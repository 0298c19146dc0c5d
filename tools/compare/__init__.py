"""What `tools/compare_revisions.py` runs and compares."""
