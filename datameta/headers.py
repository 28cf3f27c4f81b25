"""The headers that every answer has, whoever gives it: a view, the guard around them, or the server itself."""

from functools import cache

SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
ONLY_TLS = {"Strict-Transport-Security": "max-age=31536000; includeSubDomains"}


@cache
def make_headers(base_url: str) -> dict[str, str]:
    """Return the headers of a portal with this address; where that is https, browsers are told to keep to it."""
    return SECURITY_HEADERS | (ONLY_TLS if base_url.startswith("https:") else {})
