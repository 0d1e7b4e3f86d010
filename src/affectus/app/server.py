"""The interface under ``/api``, and the page."""

import contextlib
import functools
import json
import secrets
import tempfile
from collections.abc import AsyncIterator
from dataclasses import asdict
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException as StarletteHTTPException

import affectus
from affectus.app import schema
from affectus.app.catalog import Catalog, Entry
from affectus.app.corrections import manifest_text, write_archive
from affectus.app.guard import COOKIE, FILE_CSP, REPORT_CSP, SESSION_PATH, Guard
from affectus.app.pool import Pool
from affectus.app.schema import JobId
from affectus.app.settings import Settings
from affectus.app.sniffing import shown_name
from affectus.app.store import RESULT, Job, JobKind, State, Store
from affectus.app.uploads import RefusedError, drain, receive
from affectus.app.workers import serve
from affectus.errors import AffectusError

UPLOAD_PATH = "/api/analyses"
BODY = "application/octet-stream"
_VIEW = "view.json"


class Download(StrEnum):
    """In which form a result is given."""

    CSV = "csv"
    JSON = "json"
    VTT = "vtt"
    ELAN = "eaf"
    TEXTGRID = "textgrid"


_DOWNLOADS = {
    Download.CSV: ("utterances.csv", "text/csv; charset=utf-8", ".csv"),
    Download.JSON: ("result.json", "application/json", ".json"),
    Download.VTT: ("subtitles.vtt", "text/vtt; charset=utf-8", ".vtt"),
    Download.ELAN: ("annotation.eaf", "application/xml", ".eaf"),
    Download.TEXTGRID: ("annotation.TextGrid", "text/plain; charset=utf-8", ".TextGrid"),
}


class Face(StrEnum):
    """Whose face is read, if there are several."""

    LARGEST = "largest"
    SPEAKING = "speaking"


class Form(StrEnum):
    """How corrections are given: the table alone, or with features and media."""

    CSV = "csv"
    ZIP = "zip"


_ERROR: dict[str, Any] = {"model": schema.ErrorOut}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: _ERROR | {"description": "The request is malformed"},
    401: _ERROR | {"description": "A token is needed"},
    403: _ERROR | {"description": "Another site asked, or by another name"},
    411: _ERROR | {"description": "The length must be given"},
    413: _ERROR | {"description": "The request is too large"},
    422: _ERROR | {"description": "A value is not what it should be"},
}
_MISSING: dict[int | str, dict[str, Any]] = {404: _ERROR | {"description": "There is no such analysis"}}
_NOT_NOW: dict[int | str, dict[str, Any]] = {409: _ERROR | {"description": "Its state does not allow it"}}


def _binary(*kinds: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in kinds}}}


def create_app(settings: Settings, *, store: Store | None = None, target: Any = serve) -> FastAPI:
    """Return the application.

    Args:
        settings: of the server.
        store: the list of analyses; None opens that of the folder.
        target: what a worker process runs; for tests.

    Raises:
        AffectusError: the folder cannot be used.
    """
    kept = store or Store(settings.folder)
    catalog = Catalog(settings.roots)
    pool = Pool(kept, settings, catalog.path, target)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        pool.start()
        try:
            yield
        finally:
            pool.stop()
            kept.close()

    app = FastAPI(
        title="affectus",
        version=affectus.__version__,
        summary="What recordings express: analyses on this machine.",
        docs_url=None,  # its page would come from another host
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=lifespan,
        responses=_REFUSALS,
    )
    app.state.pool, app.state.store = pool, kept
    app.add_middleware(Guard, settings=settings, upload_path=UPLOAD_PATH)
    _add_errors(app)
    _add_server(app, settings, kept, pool)
    _add_analyses(app, settings, kept, pool)
    _add_results(app, kept)
    _add_corrections(app, kept)
    _add_reviews(app, settings, kept, pool, catalog)
    _add_page(app)
    return app


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(StarletteHTTPException)
    async def refused(request: Request, error: StarletteHTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == 405:  # each route knows its own method alone
            headers["Allow"] = ", ".join(_methods(app, request.scope["path"]))
        return JSONResponse({"error": str(error.detail)}, error.status_code, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body") or "the request"
        return JSONResponse({"error": f"Not valid: {where}: {first['msg']}."}, 422)

    @app.exception_handler(AffectusError)
    async def bad(_: Request, error: AffectusError) -> JSONResponse:
        status = error.status if isinstance(error, RefusedError) else 409
        return JSONResponse({"error": str(error)}, status)


def _methods(app: FastAPI, path: str) -> list[str]:
    """Return the methods that a path takes."""
    routes = [route for route in app.routes if isinstance(route, APIRoute) and route.path_regex.match(path)]
    return sorted({method for route in routes for method in route.methods or ()})


def _add_server(app: FastAPI, settings: Settings, store: Store, pool: Pool) -> None:
    @app.get("/api/status", tags=["server"])
    def status() -> schema.StatusOut:
        """Tell what the server is doing, and what it takes."""
        limits, waiting = settings.limits, store.waiting()
        return schema.StatusOut(
            version=affectus.__version__,
            model=settings.model.name if settings.model else "the model that ships",
            running=pool.running(),
            waiting=waiting,
            room=max(limits.waiting - waiting, 0),
            upload_bytes=limits.upload_bytes,
            media_seconds=limits.media_seconds,
            can_open=bool(settings.roots),
        )

    @app.post(SESSION_PATH, status_code=204, tags=["server"])
    def open_session(given: schema.SessionIn) -> Response:
        """Give the token once; a cookie stands for it from then on."""
        if settings.token is not None and not secrets.compare_digest(given.token.encode(), settings.token.encode()):
            raise HTTPException(401, "This is not the token.", {"WWW-Authenticate": "Bearer"})
        response = Response(status_code=204)
        if settings.token is not None:
            response.set_cookie(COOKIE, settings.token, httponly=True, samesite="strict", path="/")
        return response


def _add_analyses(app: FastAPI, settings: Settings, store: Store, pool: Pool) -> None:
    limits = settings.limits

    @app.get("/api/analyses", tags=["analyses"])
    def listed(
        count: Annotated[int, Query(ge=1, le=200)] = 50, skip: Annotated[int, Query(ge=0, le=10**9)] = 0
    ) -> schema.JobsOut:
        """List the analyses, the newest first."""
        jobs, total = store.newest(count, skip)
        return schema.JobsOut(analyses=[_out(job, store, pool) for job in jobs], total=total)

    @app.post(
        UPLOAD_PATH,
        status_code=202,
        tags=["analyses"],
        responses={
            408: _ERROR | {"description": "It arrives too slowly"},
            415: _ERROR | {"description": "It is nothing that can be analysed"},
            429: _ERROR | {"description": "Too many wait already"},
            507: _ERROR | {"description": "The disk is full"},
        },
        openapi_extra={
            "requestBody": {"required": True, "content": {BODY: {"schema": {"type": "string", "format": "binary"}}}}
        },
    )
    async def upload(
        request: Request,
        name: Annotated[str, Query(max_length=1000)] = "recording",
        face: Face = Face.LARGEST,
    ) -> schema.JobOut:
        """Analyse a video, a sound file, subtitles or a text: the body is the file itself.

        What it is, is seen from its content; the name is shown and does nothing else.
        """
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != BODY:
            await drain(request.stream())
            raise HTTPException(415, f"The content type must be {BODY}.")
        options = {} if face is Face.LARGEST else {"face": face.value}
        job = store.add(JobKind.MEDIA, shown_name(name), State.UPLOADING, options=options, most=limits.waiting)
        if job is None:
            await drain(request.stream())
            why = f"{limits.waiting} analyses wait already, and no more may. Try again when one of them has begun."
            raise HTTPException(429, why, {"Retry-After": "15"})
        try:
            got = await receive(request.stream(), name, store.job_folder(job.id), limits)
            waits = store.change(
                job.id,
                only=[State.UPLOADING],
                state=State.QUEUED,
                file=got.path.name,
                mime=got.kind.mime,
                bytes=got.bytes,
            )
        except RefusedError as error:
            store.delete(job.id)
            if error.status != 408:  # one that is slow is not waited for
                await drain(request.stream())
            raise error from None
        except BaseException:
            store.delete(job.id)  # its sender has gone
            raise
        pool.ring()
        found = store.get(job.id) if waits else None
        if found is None:
            raise HTTPException(409, "The analysis was deleted while it was uploaded.")
        return _out(found, store, pool)

    @app.get("/api/analyses/{id}", tags=["analyses"], responses=_MISSING)
    def one(id: JobId) -> schema.JobOut:
        """Tell what has become of an analysis."""
        return _out(_job(store, id), store, pool)

    @app.post("/api/analyses/{id}/cancel", tags=["analyses"], responses={**_MISSING, **_NOT_NOW})
    def cancel(id: JobId) -> schema.JobOut:
        """End an analysis that waits or runs."""
        job = _job(store, id)
        if not pool.cancel(id):
            raise HTTPException(409, f"The analysis neither waits nor runs: it is {job.state}.")
        return _out(_job(store, id), store, pool)

    @app.post("/api/analyses/{id}/retry", tags=["analyses"], responses={**_MISSING, **_NOT_NOW, 429: _ERROR})
    def retry(id: JobId) -> schema.JobOut:
        """Begin an analysis again that failed or was cancelled."""
        job = _job(store, id)
        if store.waiting() >= limits.waiting:
            raise HTTPException(429, "Too many analyses wait already.", {"Retry-After": "15"})
        again = [State.FAILED, State.CANCELLED]
        if not store.change(id, only=again, state=State.QUEUED, attempts=0, error=None, started=None, ended=None):
            raise HTTPException(409, f"Only what failed or was cancelled can begin again: this is {job.state}.")
        pool.ring()
        return _out(_job(store, id), store, pool)

    @app.delete("/api/analyses/{id}", status_code=204, tags=["analyses"], responses={**_MISSING, **_NOT_NOW})
    def delete(id: JobId) -> Response:
        """Delete an analysis: its media, features, results and corrections."""
        job = _job(store, id)
        if job.state is State.UPLOADING:
            raise HTTPException(409, "The file is being uploaded.")
        pool.cancel(id)
        store.delete(id)
        return Response(status_code=204)


def _add_results(app: FastAPI, store: Store) -> None:
    @app.get(
        "/api/analyses/{id}/result",
        tags=["results"],
        response_model=None,
        responses={**_MISSING, **_NOT_NOW, 200: {"model": schema.ResultOut}},
    )
    def result(id: JobId) -> FileResponse:
        """Give what was found, with what would be found if modalities were switched off."""
        return FileResponse(_done(store, id) / _VIEW, media_type="application/json")

    @app.get(
        "/api/analyses/{id}/files/{form}",
        tags=["results"],
        response_class=Response,
        responses={**_MISSING, **_NOT_NOW, **_binary(*(kind.split(";")[0] for _, kind, _ in _DOWNLOADS.values()))},
    )
    def download(id: JobId, form: Download) -> FileResponse:
        """Give what was found as a file: CSV, JSON, WebVTT, ELAN or Praat."""
        file, kind, suffix = _DOWNLOADS[form]
        path = _done(store, id) / file
        if not path.is_file():
            raise HTTPException(404, "What has no times cannot be given in this form.")
        name = Path(_job(store, id).name).stem + suffix
        return FileResponse(path, media_type=kind, filename=name, headers={"content-security-policy": FILE_CSP})

    @app.get(
        "/api/analyses/{id}/media",
        tags=["results"],
        response_class=Response,
        responses={
            **_MISSING,
            **_binary("video/*", "audio/*", "text/plain"),
            206: {"description": "A part of it"},
            416: {"description": "It has no such part"},
        },
    )
    def media(id: JobId) -> FileResponse:
        """Give the recording back, or parts of it."""
        job = _job(store, id)
        path = store.job_folder(id) / (job.file or "")
        if job.file is None or not path.is_file():
            raise HTTPException(404, "There is no recording.")
        kind = job.mime or ""
        shown = kind if kind.startswith(("video/", "audio/")) else "text/plain; charset=utf-8"
        return FileResponse(path, media_type=shown, headers={"content-security-policy": FILE_CSP})

    @app.get(
        "/api/analyses/{id}/report",
        tags=["results"],
        response_class=Response,
        responses={**_MISSING, **_NOT_NOW, **_binary("text/html")},
    )
    def report(id: JobId) -> FileResponse:
        """Give the report of a run on a corpus, a page without scripts."""
        path = _done(store, id) / "report.html"
        if not path.is_file():
            raise HTTPException(404, "There is no report of this.")
        return FileResponse(path, media_type="text/html", headers={"content-security-policy": REPORT_CSP})


def _add_corrections(app: FastAPI, store: Store) -> None:
    responses = {**_MISSING, **_NOT_NOW}
    path = "/api/analyses/{id}/corrections"

    @app.get(path, tags=["corrections"], responses=_MISSING)
    def corrections(id: JobId) -> list[schema.CorrectionOut]:
        """List what people corrected."""
        _job(store, id)
        return [schema.CorrectionOut.model_validate(asdict(one)) for one in store.corrections(id)]

    @app.put(path, tags=["corrections"], responses=responses)
    def correct(id: JobId, given: schema.CorrectionIn) -> schema.CorrectionOut:
        """Say what an utterance expresses."""
        if not any(one["id"] == given.utterance for one in _view(_done(store, id))["utterances"]):
            raise HTTPException(404, "There is no such utterance.")
        said = store.correct(id, given.utterance, given.sentiment, given.emotion)
        return schema.CorrectionOut.model_validate(asdict(said))

    @app.delete(path, status_code=204, tags=["corrections"], responses=_MISSING)
    def withdraw(id: JobId, utterance: Annotated[str, Query(max_length=1000)]) -> Response:
        """Withdraw a correction."""
        _job(store, id)
        if not store.withdraw(id, utterance):
            raise HTTPException(404, "There is no correction of this utterance.")
        return Response(status_code=204)

    @app.get(
        "/api/analyses/{id}/manifest",
        tags=["corrections"],
        response_class=Response,
        responses={**responses, **_binary("text/csv", "application/zip")},
    )
    def manifest(id: JobId, form: Form = Form.CSV) -> Response:
        """Give the corrected utterances as a manifest to train on; as ZIP with their features and the media."""
        folder, job, said = _done(store, id), _job(store, id), store.corrections(id)
        if not said:
            raise HTTPException(409, "Nothing was corrected yet.")
        utterances = _view(folder)["utterances"]
        name = Path(job.name).stem + "-corrections"
        if form is Form.CSV:
            disposition = f'attachment; filename="corrections-{id}.csv"'
            text = manifest_text(said, utterances, job.file)
            return PlainTextResponse(text, media_type="text/csv", headers={"content-disposition": disposition})
        holder = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=store.job_folder(id)))
        out = holder / "corrections.zip"
        try:
            write_archive(out, job, store.job_folder(id), said, utterances)
        except BaseException:
            _remove(holder)
            raise
        return FileResponse(
            out, media_type="application/zip", filename=f"{name}.zip", background=BackgroundTask(_remove, holder)
        )


def _add_reviews(app: FastAPI, settings: Settings, store: Store, pool: Pool, catalog: Catalog) -> None:
    @app.get("/api/folders", tags=["runs"])
    def folders() -> list[schema.EntryOut]:
        """List the runs, corpora and manifests that can be opened."""
        return [
            schema.EntryOut(
                id=one.id, kind=one.kind, name=one.name, about=one.about,
                modalities=list(one.modalities), splits=list(one.splits),
            )
            for one in catalog.entries()
        ]  # fmt: skip

    @app.post("/api/reviews", status_code=202, tags=["runs"], responses={**_MISSING, 429: _ERROR})
    def open_review(given: schema.ReviewIn) -> schema.JobOut:
        """Judge a corpus by a run: the run's report, and every utterance with its error."""
        entries = {one.id: one for one in catalog.entries()}
        corpus, run = entries.get(given.corpus), entries.get(given.run or "")
        if corpus is None or corpus.kind == "run" or (given.run is not None and (run is None or run.kind != "run")):
            raise HTTPException(404, "There is no such run or corpus in the folders that the server was started with.")
        options = {"corpus": given.corpus, "run": given.run, "split": given.split}
        name = _review_name(run, corpus, given.split)
        job = store.add(JobKind.REVIEW, name, State.QUEUED, options=options, most=settings.limits.waiting)
        if job is None:
            raise HTTPException(429, "Too many analyses wait already.", {"Retry-After": "15"})
        pool.ring()
        return _out(job, store, pool)


def _review_name(run: Entry | None, corpus: Entry, split: str | None) -> str:
    by = run.name if run else "the server's model"
    return shown_name(f"{by} on {corpus.name}{f', {split}' if split else ''}".replace("/", " › "))


def _add_page(app: FastAPI) -> None:
    static = Path(str(files("affectus.app").joinpath("static")))

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(static / "index.html", media_type="text/html; charset=utf-8")

    app.mount("/static", StaticFiles(directory=static), name="static")


def _job(store: Store, id: str) -> Job:
    job = store.get(id)
    if job is None:
        raise HTTPException(404, "There is no such analysis.")
    return job


def _done(store: Store, id: str) -> Path:
    """Return the folder of the result of an analysis that is done."""
    job = _job(store, id)
    if job.state is not State.DONE:
        raise HTTPException(409, f"The analysis is not done: it is {job.state}.")
    return store.job_folder(id) / RESULT


def _out(job: Job, store: Store, pool: Pool) -> schema.JobOut:
    ahead = None
    if job.state is State.QUEUED:
        ahead = sum(other.created < job.created for other in store.of_state(State.QUEUED))
    return schema.job_out(job, pool.progress(job.id), ahead)


def _view(folder: Path) -> dict[str, Any]:
    path = folder / _VIEW
    return _read_view(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _read_view(path: Path, changed: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
