"""A route as Traefik's dynamic configuration, and what Traefik counts of it.

Shares are its weighted services, which are exact to the request; the takeover by the other slot is its failover, the
copies of a shadow its mirroring. A rollout that follows a header or a column takes two routers more, told apart by the bucket
that the plugin in docker/router puts the request into.

All models share Traefik's names. A dot, which no model's name has, parts a model from what is of it: `m.candidate` is
of the model `m`, and `m-candidate` another model.
"""

from __future__ import annotations

from typing import Any

from pipeline.rollout.routing.route import Route, Share
from pipeline.settings.models import followed_column

# Traefik sets so many bytes aside for each request, whatever its size: a MiB costs it more than all else that it does.
# What is larger is sent once.
RETRIED_BYTES = 131_072
RETRY = {
    "attempts": 8,
    "initialInterval": "100ms",
    "retryNonIdempotentMethod": True,
    "maxRequestBodyBytes": RETRIED_BYTES,
    "status": ["502", "503", "504"],
}
READY = "/v2/health/ready"
HEALTH = {"path": READY, "interval": "500ms", "timeout": "1s"}
BUCKET = "X-Perennial-Bucket"
STAMP = "x-route"
PLUGIN = "bucket"
PLUGIN_MODULE = "perennial.local/bucket"


def service_name(model: str, share: Share) -> str:
    """What Traefik calls a slot in its configuration and its metrics."""
    return f"{model}.{share.slot}.v{share.version}"


def render(route: Route) -> dict[str, Any]:
    """The whole content of the model's file."""
    m = route.model
    middlewares: dict[str, Any] = {
        f"{m}.strip": {"stripPrefix": {"prefixes": [f"/{m}"]}},
        f"{m}.stamp": {"headers": {"customResponseHeaders": {STAMP: route.stamp}}},
        f"{m}.retry": {"retry": RETRY},
    }
    if route.rate_limit:
        # By client address, in bursts of a second's worth.
        limit = {"average": route.rate_limit, "burst": route.rate_limit}
        middlewares = {f"{m}.rate": {"rateLimit": limit}, **middlewares}
    top = {"rule": f"Path(`/{m}`) || PathPrefix(`/{m}/`)", "entryPoints": ["web"], "middlewares": list(middlewares)}
    routers: dict[str, Any] = {m: {**top, "service": m}}
    # Only where somebody else can answer: a slot that stands alone and is slow for a second is better than nobody.
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
            middlewares[f"{m}.bucket"] = {"plugin": {PLUGIN: {**_followed_value(route.follow), "salt": m}}}
            routers = _followed(route, {**top, "middlewares": [f"{m}.bucket"]}, list(middlewares)[:-1])
    if route.rate_limit:
        # Whether a route is followed is asked often.
        free = [name for name in top["middlewares"] if name != f"{m}.rate"]
        ready = {**top, "rule": f"Path(`/{m}{READY}`)", "priority": 1000, "middlewares": free, "service": m}
        routers = {**routers, f"{m}.ready": ready}
    return {"http": {"routers": routers, "middlewares": middlewares, "services": services}}


def _with_failover(model: str, first: Share, second: Share | None) -> dict[str, Any]:
    if second is None:
        return {"weighted": {"services": [{"name": service_name(model, first), "weight": 100}]}}
    return {"failover": {"service": service_name(model, first), "fallback": service_name(model, second)}}


def _split(route: Route) -> dict[str, Any]:
    """Each side has the other one behind it: a slot that dies in its canary costs no request."""
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


def _followed(route: Route, top: dict[str, Any], then: list[str]) -> dict[str, Any]:
    """A router that finds the bucket, and below it one for each side and one for requests without the header."""
    m = route.model
    theirs = "|".join(str(bucket) for bucket in range(route.percent))
    below = {"parentRefs": [m], "middlewares": then}
    return {
        m: top,
        f"{m}.to-candidate": {
            **below,
            "rule": f"HeaderRegexp(`{BUCKET}`, `^({theirs})$`)",
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
