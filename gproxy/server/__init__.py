"""Sockets, processes and the order of the stages. The only network I/O on the path of a request."""
