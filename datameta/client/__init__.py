"""The portal from outside: what a laboratory's computer needs to hand in files and to fetch them.

Nothing here imports a part of the server; click, httpx and rich are all it takes.
"""
