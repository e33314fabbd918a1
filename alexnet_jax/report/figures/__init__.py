"""Pictures of what a net does."""
