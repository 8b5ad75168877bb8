"""From the command to the end of the server: its lock, sockets, workers and signals. Serves no request."""
