"""`pamela report`: pages of results, from run folders alone, each one self-contained HTML file."""
