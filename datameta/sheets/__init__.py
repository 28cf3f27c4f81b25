"""Sample sheets as files: read, made, and given back with what is wrong with them. No database, no HTTP."""
