"""work(): a walk through the standard library's own Python code."""
import argparse
import ast
import asyncio
import collections
import configparser
import contextlib
import copy
import dataclasses
import difflib
import enum
import fractions
import functools
import html.parser
import inspect
import io
import json
import json.decoder
import json.encoder
import pickle
import pprint
import re
import string
import textwrap
import tokenize
import traceback
import types
import typing

DATA = {"name": ["text", 1, 2.5, None, {"deep": [[[["er"]]]]}] * 3}
CODE = """
@decorator
def function(a, b=1, *c, d, **e):
    with a as b, c:
        return [lambda: x for x in y if z] or {k: v for k, v in w}
class C(D, metaclass=E):
    async def f(self):
        async for x in y: await z
try: pass
except OSError as e: raise
"""


async def tasks():
    async def leaf(n):
        await asyncio.sleep(0)
        return n

    async def numbers():
        for n in range(3):
            yield await leaf(n)
    return [n async for n in numbers()], await asyncio.gather(
        *(leaf(n) for n in range(3)))


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
    tree = ast.parse(CODE)
    ast.dump(ast.fix_missing_locations(tree))
    getattr(ast, "unparse", ast.dump)(tree)
    list(tokenize.generate_tokens(io.StringIO(CODE).readline))
    list(difflib.unified_diff(text.split(), CODE.split()))
    parser = argparse.ArgumentParser(prog="p")
    parser.add_argument("--number", type=int, choices=[1, 2])
    parser.add_subparsers().add_parser("sub").add_argument("x", nargs="*")
    parser.parse_args(["--number", "1", "sub", "x"])
    parser.format_help()
    collections.namedtuple("Point", "x y")(1, 2)
    dataclasses.make_dataclass("D", ["a", "b"])(1, 2)
    enum.Enum("Colour", "RED GREEN")
    config = configparser.ConfigParser()
    config.read_string("[a]\nb = %(c)s\nc = 1\n")
    config["a"]["b"]
    copy.deepcopy(DATA)
    pickle._loads(pickle._dumps(DATA))
    pprint.pformat(DATA, width=20)
    string.Template("$a ${b}").substitute(a=1, b=2)
    fractions.Fraction(1, 3) + fractions.Fraction("2/7")
    html.parser.HTMLParser().feed("<p class=x>a&amp;b<br></p>")
    typing.get_type_hints(types.SimpleNamespace)
    with managed(), managed():
        generic(1)
    asyncio.run(tasks())
    try:
        json.loads("{")
    except ValueError:
        traceback.format_exc()
