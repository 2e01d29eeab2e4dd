"""A handler without packages.

    ol-exec serve &
    curl -T examples/hello.py 127.0.0.1:5000/functions/hello
    curl -d '{"name": "you"}' 127.0.0.1:5000/run/hello

`f` gets the request's JSON and returns what becomes the reply's. What it prints is kept: `ol-exec logs hello`.
"""


def f(event):
    name = (event or {}).get("name", "world")
    print(f"greeting {name}")
    return {"greeting": f"hello, {name}"}
