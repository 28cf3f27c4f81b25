// Runs before the page is painted, so that nobody who chose a scheme sees a flash of the other; scheme.ts does the rest.
document.documentElement.dataset.scheme = localStorage.getItem('datameta.scheme') ?? 'auto'
