"""The OpenAPI document and its page, from files of its own: it works without the internet."""

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

PATH = "/docs"
DOCUMENT = "/openapi.json"
_FILES = f"{PATH}/assets"

router = APIRouter(include_in_schema=False)


@router.get(DOCUMENT)
def show_document(request: Request) -> JSONResponse:
    """The document, made in a thread: it takes seconds the first time, and others are not to wait for it."""
    return JSONResponse(request.app.openapi())


@router.get(PATH)
async def show_documentation(request: Request) -> HTMLResponse:
    """The Swagger UI over this application's OpenAPI document."""
    root = request.scope.get("root_path", "")
    return get_swagger_ui_html(
        openapi_url=f"{root}{DOCUMENT}",
        title=request.app.title,
        swagger_js_url=f"{root}{_FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}{_FILES}/swagger-ui.css",
        swagger_favicon_url="data:,",
    )


def add_documentation(app: FastAPI) -> None:
    """Serve the page and its files."""
    app.mount(_FILES, StaticFiles(packages=[("fastapi_offline", "static")]))
    app.include_router(router)
