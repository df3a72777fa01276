"""The family of networks that say how much a user likes a thing."""
