"""Measurements: how fast the server is, and whether what it offers is sound. `make bench` runs them all.

Everything asks a real server process through the protocol, or compares engines directly. Nothing here is a test; the
tests of its own parts are `tests/test_bench_*.py`.
"""
