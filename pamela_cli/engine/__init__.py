"""The engine: no printing, no files but checkpoints, no command line."""
