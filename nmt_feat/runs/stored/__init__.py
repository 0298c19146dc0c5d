"""What is stored of runs: folders, records, settings, locks."""
