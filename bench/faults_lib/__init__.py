"""The faults of bench/faults.py, for both sides."""
