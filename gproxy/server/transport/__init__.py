"""HTTP/1.1 with upstreams: dialing, kept connections, exchanges. Which is asked for what is decided elsewhere."""
