"""Examples that are photographs or drawings: from published bytes to batches."""
