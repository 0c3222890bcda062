"""What `process_rows.py` consists of: its arguments, one run, its report."""
