"""What is served beside the requests to models: health, lists, accounts, metrics. Counts nothing that limits."""
