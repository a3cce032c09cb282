"""Speed and memory, measured against other libraries on the same work: ``python -m benchmarks --help``."""
