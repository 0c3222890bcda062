"""A complete Airflow cluster as plain processes on this machine."""
