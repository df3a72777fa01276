"""How do things learn? Networks, objectives and the one training loop: tensors only, no files."""
