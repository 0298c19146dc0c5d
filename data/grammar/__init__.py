"""The synchronous grammar of the embedded corpus."""
