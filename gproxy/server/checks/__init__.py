"""What `gproxy doctor` and `gproxy init` find out about a machine and its upstreams. Serves nothing."""
