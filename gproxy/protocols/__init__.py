"""What each dialect looks like on the wire. Pure: bytes in, data out, no I/O."""
