"""The engine: no printing, no files except checkpoints, no command line."""
