"""What holds however much is stored: ``make test-scale`` tries it with a million sets, ``make test`` with fewer."""
