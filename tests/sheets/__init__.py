"""Sample sheets: read, checked, made, and given back."""
