"""Text and its annotation: from files on disk to annotated sentence pairs and batches."""
