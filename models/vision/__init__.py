"""The family of networks that look at photographs."""
