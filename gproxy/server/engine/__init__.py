"""HTTP with clients: connections, framing, and what stands in for Hypercorn's own. Knows nothing of models."""
