"""One request to a model, stage by stage in the order of `pipeline.py`. Sockets are `engine` and `transport`."""
