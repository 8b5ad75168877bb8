"""The command line: argv to a call to a print. No rules live here."""
