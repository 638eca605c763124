"""Activities: thin adapters between the workflows, the domain and storage."""
