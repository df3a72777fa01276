"""Networks on tables: entity embeddings and numbers."""
