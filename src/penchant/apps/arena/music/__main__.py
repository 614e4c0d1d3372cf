"""One music system over HTTP, in the form that a registry's kind `http` expects."""

import base64
from typing import Any

import click
import uvicorn
from fastapi import FastAPI, HTTPException

from penchant.apps.arena import music
from penchant.apps.arena.systems import Generate, Request
from penchant.errors import PenchantError

SYSTEMS: dict[str, Generate] = {"chorale": music.chorale, "groove": music.groove}


def application(generate: Generate) -> FastAPI:
    """POST /generate takes a request as JSON and returns the artefact as JSON; GET /health answers while it is well."""
    app = FastAPI(openapi_url=None)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/generate")
    def answer(request: Request) -> dict[str, Any]:
        try:
            made = generate(request)
        except PenchantError as error:
            raise HTTPException(422, str(error)) from error
        data = base64.b64encode(made.data).decode()
        return {"media_type": made.media_type, "data": data, "seconds": made.seconds, "lyrics": made.lyrics}

    return app


@click.command()
@click.option("--system", type=click.Choice(sorted(SYSTEMS)), default="chorale", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8100, show_default=True)
def main(system: str, port: int) -> None:
    """Serve a music system to arenas on this machine."""
    try:
        SYSTEMS[system](Request("", "audio", duration=1))  # what is missing shows now, not at the first battle
    except PenchantError as error:
        raise click.ClickException(str(error)) from error
    uvicorn.run(application(SYSTEMS[system]), host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
