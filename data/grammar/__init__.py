"""The synchronous grammar of the bundled corpus."""
