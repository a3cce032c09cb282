"""Other ways to the same meta-gradient: libraries, and what PyTorch itself offers."""
