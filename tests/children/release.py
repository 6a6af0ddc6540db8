"""Releases random objects once too often, until that crashes."""

import faulthandler, sys
faulthandler.enable(details=True, c_stack=False)
import ast, asyncio, collections, ctypes, decimal, gc, json, random, re
chance = random.Random(int(sys.argv[1]))

class Node:
    def __init__(self, *children):
        self.children = list(children)
        self.name = "node %d" % chance.randrange(10 ** 6)
        self.table = {i: str(i) for i in range(chance.randrange(20))}

class Slots:
    __slots__ = ("a", "b")
    def __init__(self):
        self.a, self.b = {"x": 1.5 * chance.random()}, (1, [2], "s" * 9)

def work():
    global kept
    text = json.dumps([[i, str(i), {"k": i / 7}] for i in range(50)])
    kept = [json.loads(text), [Node(Node(), Slots()) for i in range(20)],
            collections.OrderedDict((i, Slots()) for i in range(20)),
            [decimal.Decimal(i) / 7 for i in range(20)],
            ast.parse("def f(x):\n    return [x + i for i in range(9)]\n"),
            re.compile("(a|b)*c" * chance.randrange(1, 5)),
            [lambda x=i: x for i in range(20)],
            {str(i): bytearray(i) for i in range(50)},
            [(i, float(i), str(i) * 3) for i in range(20)],
            frozenset(range(1000, 1020)), [range(i) for i in range(20)]]
    async def wait(n):
        await asyncio.sleep(0)
        return n
    async def main():
        return await asyncio.gather(*[wait(i) for i in range(9)])
    asyncio.new_event_loop().run_until_complete(main())

def pick():
    x = chance.choice(kept if chance.random() < .8 else gc.get_objects())
    for i in range(chance.randrange(5)):
        inner = gc.get_referents(x)
        if inner:
            x = chance.choice(inner)
    return x

release = ctypes.pythonapi.Py_DecRef
release.argtypes = [ctypes.c_void_p]
work()
for i in range(40):
    at, times = id(pick()), chance.choice([1, 1, 1, 2, 3, 20])
    for j in range(times):
        release(at)
    work()
    if chance.random() < .3:
        gc.collect()
