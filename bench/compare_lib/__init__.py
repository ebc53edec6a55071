"""The parts of bench/compare.py: workloads, their two implementations, interleaved timing, the report."""
