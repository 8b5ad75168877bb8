"""Between dialects: requests, answers and streams, by way of one conversation model."""
