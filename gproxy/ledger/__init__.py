"""What happened and what it cost: the SQLite store, the writer, prices and reports."""
