"""A route as Traefik's dynamic configuration.

Shares are Traefik's weighted services, which are exact to the request. The predecessor takes over by failover, and a shadow
gets its copies by mirroring. A rollout that follows a header or a column needs a router for each side; the plugin in
docker/router puts a request into a bucket, and the bucket selects the router.

All models share one namespace in Traefik. A dot, which no model's name has, ends the model's name: `m.candidate` belongs to
the model `m`, and `m-candidate` is another model.
"""

from __future__ import annotations

from typing import Any

from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.settings.rollout import followed_column

# Traefik allocates so many bytes for each request, whatever its size; with a MiB that costs more than all its other work. A
# larger request is sent once and not retried.
RETRIED_BYTES = 131_072
# Traefik's own answers when a slot dies: 502 mostly, and 500 when the slot closed an idle connection just as the request was
# written to it.
RETRY = {
    "attempts": 8,
    "initialInterval": "100ms",
    "retryNonIdempotentMethod": True,
    "maxRequestBodyBytes": RETRIED_BYTES,
    "status": ["500", "502", "503", "504"],
}
# A packed body may unpack to anything: only when nothing of it was sent yet, because nobody listened, it is sent again.
RETRY_UNSENT = {"attempts": RETRY["attempts"], "initialInterval": RETRY["initialInterval"]}
PACKED = "HeaderRegexp(`Content-Encoding`, `.`)"
# Takes precedence over the router of the same model for other requests, and not over the one that has no rate limit.
PACKED_PRIORITY = 500
READY = "/v2/health/ready"
HEALTH = {"path": READY, "interval": "500ms", "timeout": "1s"}
BUCKET = "X-Perennial-Bucket"
STAMP = "x-route"
# The guard sets it on a small request that was written to a slot which gave no answer; from outside it is taken off.
SENT_AGAIN = "X-Perennial-Sent-Again"
PLUGIN, GUARD = "bucket", "guard"
PLUGIN_MODULES = {name: f"perennial.local/{name}" for name in (PLUGIN, GUARD)}


def service_name(model: str, routed: RoutedSlot) -> str:
    """The name of a slot in Traefik's configuration and metrics."""
    return f"{model}.{routed.slot}.v{routed.version}"


def render(route: Route) -> dict[str, Any]:
    """The whole content of the model's file."""
    m = route.model
    middlewares: dict[str, Any] = {
        f"{m}.strip": {"stripPrefix": {"prefixes": [f"/{m}"]}},
        # A slot speaks HTTP/1.1 and nothing else: a client that asks for another protocol is answered in this one.
        f"{m}.stamp": {
            "headers": {
                "customResponseHeaders": {STAMP: route.stamp},
                "customRequestHeaders": {"Upgrade": "", SENT_AGAIN: ""},
            }
        },
        f"{m}.retry": {"retry": RETRY},
        f"{m}.attempts": {"plugin": {GUARD: {"attempts": True}}},
    }
    if route.rate_limit:
        # For each client address; a burst may hold the requests of one second.
        limit = {"average": route.rate_limit, "burst": route.rate_limit}
        middlewares = {f"{m}.rate": {"rateLimit": limit}, **middlewares}
    middlewares = {f"{m}.guard": {"plugin": {GUARD: {}}}, **middlewares}
    top = {"rule": f"Path(`/{m}`) || PathPrefix(`/{m}/`)", "entryPoints": ["web"], "middlewares": list(middlewares)}
    routers: dict[str, Any] = {m: {**top, "service": m}}
    # Only where another slot can answer: a single slot that is slow for a second must stay in the route.
    checked = {"healthCheck": HEALTH} if len(route.answering) > 1 else {}
    services = {
        service_name(m, s): {"loadBalancer": {"servers": [{"url": s.address}], **checked}}
        for s in (route.live, route.previous, route.candidate)
        if s is not None
    }
    if route.candidate is None:
        services[m] = _with_failover(m, route.live, route.previous)
    elif route.mirror:
        copies = {"name": service_name(m, route.candidate), "percent": route.percent}
        services[m] = {"mirroring": {"service": service_name(m, route.live), "mirrors": [copies]}}
    else:
        services |= _split(route)
        if route.follow:
            routers = _followed(route, {**top, "middlewares": [f"{m}.guard", f"{m}.bucket"]}, list(middlewares)[1:])
            middlewares[f"{m}.bucket"] = {"plugin": {PLUGIN: {**_followed_value(route.follow), "salt": m}}}
    routers |= {_packed_name(m, name): _for_packed(m, name, router) for name, router in routers.items()}
    middlewares[f"{m}.retry-unsent"] = {"retry": RETRY_UNSENT}
    if route.rate_limit:
        # A rollout polls this path to see that the route is followed, so it has no rate limit.
        free = [name for name in top["middlewares"] if name != f"{m}.rate"]
        ready = {**top, "rule": f"Path(`/{m}{READY}`)", "priority": 1000, "middlewares": free, "service": m}
        routers = {**routers, f"{m}.ready": ready}
    return {"http": {"routers": routers, "middlewares": middlewares, "services": services}}


def _packed_name(model: str, router: str) -> str:
    return f"{model}.packed{router.removeprefix(model)}"


def _for_packed(model: str, name: str, router: dict[str, Any]) -> dict[str, Any]:
    """The router for requests with a content-encoding: the same, but a request is not sent again once a slot may have had it."""
    retry, attempts = f"{model}.retry", f"{model}.attempts"
    middlewares = [f"{retry}-unsent" if m == retry else m for m in router["middlewares"] if m != attempts]
    if "parentRefs" in router:
        return {**router, "middlewares": middlewares, "parentRefs": [_packed_name(model, model)]}
    rule = f"({router['rule']}) && {PACKED}"
    return {**router, "middlewares": middlewares, "rule": rule, "priority": PACKED_PRIORITY}


def _with_failover(model: str, first: RoutedSlot, second: RoutedSlot | None) -> dict[str, Any]:
    if second is None:
        return {"weighted": {"services": [{"name": service_name(model, first), "weight": 100}]}}
    return {"failover": {"service": service_name(model, first), "fallback": service_name(model, second)}}


def _split(route: Route) -> dict[str, Any]:
    """Weighted services for both versions. Each fails over to the other, so that no request is lost when a slot dies."""
    m, candidate = route.model, route.candidate
    assert candidate is not None
    shares = [{"name": f"{m}.champion", "weight": 100 - route.percent}]
    shares.append({"name": f"{m}.candidate", "weight": route.percent})
    return {
        m: {"weighted": {"services": shares}},
        f"{m}.champion": _with_failover(m, route.live, candidate),
        f"{m}.candidate": _with_failover(m, candidate, route.live),
    }


def _followed_value(follow: str) -> dict[str, str]:
    column = followed_column(follow)
    return {"column": column} if column else {"header": follow}


def _followed(route: Route, top: dict[str, Any], middlewares: list[str]) -> dict[str, Any]:
    """A router that finds the bucket; below it one router for each side, and one for requests without the header."""
    m = route.model
    buckets = "|".join(str(bucket) for bucket in range(route.percent))
    below = {"parentRefs": [m], "middlewares": middlewares}
    return {
        m: top,
        f"{m}.to-candidate": {
            **below,
            "rule": f"HeaderRegexp(`{BUCKET}`, `^({buckets})$`)",
            "service": f"{m}.candidate",
            "priority": 30,
        },
        f"{m}.to-champion": {
            **below,
            "rule": f"HeaderRegexp(`{BUCKET}`, `^[0-9]+$`)",
            "service": f"{m}.champion",
            "priority": 20,
        },
        f"{m}.to-any": {**below, "rule": "PathPrefix(`/`)", "service": m, "priority": 10},
    }
