"""work(): a walk through the standard library's own Python code."""
import argparse
import ast
import asyncio
import contextlib
import copy
import dataclasses
import difflib
import enum
import functools
import html.parser
import inspect
import io
import json
import json.decoder
import json.encoder
import pickle
import re
import textwrap
import tokenize
import traceback

DATA = {"name": ["text", 1, 2.5, None, {"deep": [[[["er"]]]]}] * 3}
CODE = """
@decorator
def function(a, b=1, *c, d, **e):
    return [lambda: x for x in y if z] or {k: v for k, v in w}
class C(D, metaclass=E):
    async def f(self):
        async for x in y: await z
"""


async def tasks():
    async def numbers():
        for n in range(3):
            await asyncio.sleep(0)
            yield n
    return [n async for n in numbers()]


@contextlib.contextmanager
def managed():
    yield 1


@functools.singledispatch
def generic(value):
    return inspect.signature(generic)


def work():
    text = "".join(json.JSONEncoder(indent=1).iterencode(DATA))
    decoder = json.JSONDecoder()
    decoder.scan_once = json.scanner.py_make_scanner(decoder)
    decoder.decode(text)
    re.purge()
    re.compile(r"(?P<a>x|[yz]{2,3}?)(?=b)|(?i:q)\\1*(?<!d)").match("x")
    textwrap.fill("some words to fill " * 10, 30)
    ast.dump(ast.fix_missing_locations(ast.parse(CODE)))
    list(tokenize.generate_tokens(io.StringIO(CODE).readline))
    list(difflib.unified_diff(text.split(), CODE.split()))
    parser = argparse.ArgumentParser(prog="p")
    parser.add_argument("--number", type=int, choices=[1, 2])
    parser.add_subparsers().add_parser("sub").add_argument("x", nargs="*")
    parser.parse_args(["--number", "1", "sub", "x"])
    dataclasses.make_dataclass("D", ["a", "b"])(1, 2)
    enum.Enum("Colour", "RED GREEN")
    copy.deepcopy(DATA)
    pickle._loads(pickle._dumps(DATA))
    html.parser.HTMLParser().feed("<p class=x>a&amp;b<br></p>")
    with managed():
        generic(1)
    asyncio.run(tasks())
    try:
        json.loads("{")
    except ValueError:
        traceback.format_exc()
