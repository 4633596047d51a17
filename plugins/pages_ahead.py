"""ASGI middleware that begins to make pages once the API server has started, in a thread, and ends that with it.

Plugins load in every process of Airflow; only the one that serves is told of its start (ASGI's lifespan), so the others import nothing.
"""


class PagesAhead:
    def __init__(self, app):
        self._app, self._ahead = app, None

    async def __call__(self, scope, receive, send):
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def told(message):
            await send(message)
            # After the server was told: its start waits for nothing here.
            if message["type"] == "lifespan.startup.complete":
                self._begin()

        try:
            await self._app(scope, receive, told)
        finally:
            if self._ahead is not None:
                self._ahead.stop()

    def _begin(self):
        from pipeline.pages.ahead import Ahead

        self._ahead = Ahead()
        self._ahead.start()
