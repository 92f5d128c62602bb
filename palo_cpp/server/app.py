"""The routes of the server, and what stands before them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router

from palo_cpp.server import metrics
from palo_cpp.server.access import Access
from palo_cpp.server.ollama import Ollama
from palo_cpp.server.openai_chat import ChatCompletions
from palo_cpp.server.openai_responses import Responses
from palo_cpp.server.own import Own
from palo_cpp.server.refusals import ClientLeft, Refusal
from palo_cpp.server.replies import json_response
from palo_cpp.server.service import Service

if TYPE_CHECKING:
    from palo_cpp.server.access import App

_PAGE = Path(__file__).parent / "page"

Endpoint = Callable[[Request], Awaitable[Response]]

# The page and its parts come from here; it calls nobody else, and nobody may frame it.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Not the system's table: Windows' may call scripts plain text, which browsers then refuse.
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
_PAGE_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def application(service: Service) -> App:
    """All routes, behind the rules of access."""
    ollama, own = Ollama(service), Own(service)
    posts: dict[str, Endpoint] = {
        "/v1/chat/completions": ChatCompletions(service),
        "/v1/responses": Responses(service),
        "/v1/describe": own.describe,
        "/v1/image_embeddings": own.image_embeddings,
        "/api/chat": ollama.chat,
        "/api/generate": ollama.generate,
        "/api/show": ollama.show,
    }
    gets: dict[str, Endpoint] = {
        "/api/tags": ollama.tags,
        "/api/ps": ollama.ps,
        "/api/version": ollama.version,
        "/v1/models": _models(service),
        "/v1/models/{name:path}": _models(service),
        "/health": _health(service),
        "/metrics": _metrics(service),
        "/": _page_file("index.html"),
        "/page/{name:path}": _page_part,
    }
    routes = [
        *(Route(path, _guarded(service, endpoint), methods=["POST"]) for path, endpoint in posts.items()),
        *(Route(path, _guarded(service, endpoint), methods=["GET"]) for path, endpoint in gets.items()),
    ]
    router = Router(routes, redirect_slashes=False, default=_nowhere)
    return Access(router, service.settings, service.metrics, [*posts, *gets])


def _guarded(service: Service, endpoint: Endpoint) -> Endpoint:
    """An endpoint whose errors are answered in the form that its clients read."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ClientLeft:
            return Response(status_code=499)
        except Exception as error:
            refusal = service.refusal(error)
            is_ollama = request.url.path.startswith("/api/")
            said = refusal.to_ollama() if is_ollama else refusal.to_openai()
            return json_response(said, refusal.status, refusal.headers)

    return answer


async def _nowhere(scope: Any, receive: Any, send: Any) -> None:
    refusal = Refusal(404, "path: expected one that this server has, got another; see /v1/models", code="not_found")
    await json_response(refusal.to_openai(), 404)(scope, receive, send)


def model_object(service: Service, name: str) -> Mapping[str, Any]:
    """A model in OpenAI's form, and what is to be known of it beyond that."""
    palo = service.palo
    return {
        "id": name,
        "object": "model",
        "created": service.started_at,
        "owned_by": "palo_cpp",
        "languages": list(palo.languages),
        "n_ctx": palo.n_ctx,
        "n_images": service.n_images,
        "n_beams": palo.files.family.capabilities.n_beams,
        "shares_context": service.shares_context,
        "n_parallel": service.n_parallel,
        "is_demo": palo.name == "PALO-Nano",
    }


def _models(service: Service) -> Endpoint:
    async def models(request: Request) -> Response:
        wanted = request.path_params.get("name")
        if wanted is None:
            return json_response({"object": "list", "data": [model_object(service, name) for name in service.names]})
        for name in service.names:
            if name.casefold() == wanted.casefold():
                return json_response(model_object(service, name))
        raise Refusal(404, f"model: expected {' or '.join(service.names)}, got another", code="model_not_found")

    return models


def _health(service: Service) -> Endpoint:
    async def health(_request: Request) -> Response:
        desk = service.desk
        return json_response(
            {"status": "ok", "model": service.name, "running": desk.n_running, "waiting": desk.n_waiting}
        )

    return health


def _metrics(service: Service) -> Endpoint:
    async def read(_request: Request) -> Response:
        return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)

    return read


def _page_file(name: str) -> Endpoint:
    async def page(_request: Request) -> Response:
        part = _parts().get(name)
        if part is None:
            return PlainTextResponse("This is palo-cpp; its model is at /v1/models.\n", headers=_PAGE_HEADERS)
        kind = _TYPES.get(Path(name).suffix, "application/octet-stream")
        return Response(part.read_bytes(), headers=_PAGE_HEADERS, media_type=kind)

    return page


async def _page_part(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _parts():
        raise Refusal(404, "page: expected a part of the page, got another name", code="not_found")
    return await _page_file(name)(request)


def _parts() -> dict[str, Path]:
    """The files of the page by their paths: a name that is none of them opens nothing."""
    return {path.relative_to(_PAGE).as_posix(): path for path in _PAGE.rglob("*") if path.is_file()}
