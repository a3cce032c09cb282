"""The engine: no printing, no command line, no files but checkpoints and compiled code."""
