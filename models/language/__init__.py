"""Networks that read tokens one after the other, and what they are trained to do."""
