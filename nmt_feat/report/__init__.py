"""What runs leave behind: records, tables, a sweep's summary."""
