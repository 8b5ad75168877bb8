"""The one TOML file: its schema, reading, editing, secrets, and the snapshot that serves."""
