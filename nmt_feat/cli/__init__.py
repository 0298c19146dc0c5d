"""The programs that users start."""
