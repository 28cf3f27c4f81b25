"""Work that outlives a request, done by a worker process.

``queue.py`` stores a job, ``tasks.py`` says what each does and which come by the clock, ``worker.py``
does them, ``delivery.py`` hands mails over.
"""
