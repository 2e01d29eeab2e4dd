# /// script
# requires-python = ">=3.9"
# dependencies = ["requests"]
# ///
"""A handler with a package: it checks a URL and prepares the HTTP request that another service will send.

    ol-exec serve &
    curl -T examples/signed_request.py 127.0.0.1:5000/functions/signed-request
    curl -d '{"url": "https://example.org/items", "params": {"page": 2}}' 127.0.0.1:5000/run/signed-request

A sandbox has no network, so nothing is sent from here: building and checking a request is all that `requests` is used
for. The header names the package; a requirements.txt in a .zip or .tar.gz does as well.
"""

import hashlib

import requests


def f(event):
    request = requests.Request(
        method=event.get("method", "GET"),
        url=event["url"],
        params=event.get("params"),
        json=event.get("json"),
    ).prepare()
    signed = f"{request.method} {request.url}".encode() + (request.body or b"")
    request.headers["X-Signature"] = hashlib.sha256(signed).hexdigest()
    return {"method": request.method, "url": request.url, "headers": dict(request.headers)}
