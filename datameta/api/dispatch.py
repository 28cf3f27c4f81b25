"""What Pyramid does anew for each request, done once: the request's class, and the order of the routes."""

from typing import Any

from pyramid.config import Configurator
from pyramid.interfaces import IRequestExtensions, IRequestFactory, IRoutesMapper
from pyramid.request import Request
from pyramid.urldispatch import RoutesMapper

STATIC_PARTS = 4
"""A path such as ``/api/v1/files/…`` begins with an empty part, and three that tell which routes come into question."""
_NOT_STATIC = frozenset("{*:")


class Routes(RoutesMapper):  # type: ignore[misc]
    """Pyramid's routes, of which only those are tried that begin as the path does, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self._groups: dict[str, RoutesMapper] = {}
        self._others = RoutesMapper()

    def group(self) -> None:
        """Sort the routes by their beginnings; to be called when all are known."""
        starts = [(_find_start(route.pattern), route) for route in self.routelist]
        self._groups = {start: RoutesMapper() for start, _ in starts if not _NOT_STATIC & set(start)}
        for start, route in starts:
            for group in [self._groups[start]] if start in self._groups else [*self._groups.values(), self._others]:
                group.routelist.append(route)

    def __call__(self, request: Request) -> dict[str, Any]:
        """Return the route of a request and what its path says, None and None if there is none."""
        found: dict[str, Any] = self._groups.get(_find_start(request.environ.get("PATH_INFO", "")), self._others)(
            request
        )
        return found


def _find_start(path: str) -> str:
    return "/".join(path.split("/", STATIC_PARTS)[:STATIC_PARTS])


def install_routes(config: Configurator) -> None:
    """Use these routes; to be called before the first is added."""
    config.registry.registerUtility(Routes(), IRoutesMapper)


def settle(config: Configurator) -> None:
    """Do once what is the same for each request; to be called when all is configured.

    Pyramid makes a class for each request, with the properties and methods that were added to requests: besides the
    making, the interpreter then meets each attribute of it for the first time.
    """
    config.commit()
    registry = config.registry
    registry.getUtility(IRoutesMapper).group()
    extensions = registry.getUtility(IRequestExtensions)
    kind = registry.queryUtility(IRequestFactory, default=Request)
    settled = type(kind.__name__, (kind,), {**extensions.methods, **extensions.descriptors})
    extensions.methods, extensions.descriptors = {}, {}
    registry.registerUtility(settled, IRequestFactory)
