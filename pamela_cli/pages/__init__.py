"""Pages of results: from run folders, without training, to one self-contained HTML file."""
