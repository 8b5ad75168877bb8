"""What each channel of upstream looks like. Pure data, and code only where a channel has behaviour."""
