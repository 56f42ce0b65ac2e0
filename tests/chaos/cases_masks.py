"""Mask functions of the user's own that fail, lie, or end the process they run in."""

from tests.chaos.case import Case

ENDED = "; must return a list of masks, and never end the process"
CALLED = {
    # name: (the function's body, what must be said)
    "os._exit(0)": ("os._exit(0)", ("ended its process (exit code 0) among documents 0 to 39" + ENDED,)),
    "os._exit(3)": ("os._exit(3)", ("ended its process (exit code 3)",)),
    "kills itself": ("os.kill(os.getpid(), signal.SIGKILL)", ("ended its process (signal SIGKILL)",)),
    "terminates itself": ("os.kill(os.getpid(), signal.SIGTERM)", ("ended its process (signal SIGTERM)",)),
    "aborts": ("os.abort()", ("ended its process (signal SIGABRT)",)),
    "crashes in C": ("import ctypes; ctypes.string_at(0)", ("ended its process (signal SIGSEGV)",)),
    "becomes another program": ("os.execv('/bin/true', ['true'])", ("ended its process (exit code 0)",)),
    "sys.exit(0)": ("sys.exit(0)", ("it called sys.exit(0)",)),
    "sys.exit of a text": ("sys.exit('done')", ("it called sys.exit('done')",)),
    "raises": ("raise ValueError('boom')", ("it raised ValueError: boom (own_mask.py, line 3)",)),
    "raises with a hostile text": (
        "raise ValueError('\\x1b[31m' + 'x' * 5000)",
        ("it raised ValueError: \\x1b[31mxxx",),
    ),
    "raises KeyboardInterrupt's parent": ("raise BaseException('odd')", ("it raised BaseException: odd",)),
    "raises KeyboardInterrupt": ("raise KeyboardInterrupt", ("ended its process (exit code 130)",)),
    "raises GeneratorExit": ("raise GeneratorExit", ("it raised GeneratorExit",)),
    "raises without end": ("return draw(*given)", ("it raised RecursionError",)),
    "runs out of memory": ("return [0] * 10**18", ("it raised MemoryError",)),
    "returns None": ("return None", ("it raised TypeError: 'NoneType' object is not iterable",)),
    "returns a text": ("return 'abc'", ("returned a str; must be a list of masks",)),
    "returns a number": ("return 5", ("'int' object is not iterable",)),
    "returns a dictionary": ("return {0: 1}", ("returned a dict; must be a list of masks",)),
    "returns NaN": ("return [[(0, float('nan'), 1)]]", ("must be (kind, offset, length), whole numbers",)),
    "returns a huge span": ("return [[(0, -5, 10**30)]]", ("must lie inside the text's",)),
    "returns a number of very many digits": ("return [[(0, 0, 10**5000)]]", ("must lie inside the text's",)),
    "returns spans without end": ("return [itertools.repeat((4, 0, 1))]", ("begins before 1",)),
    "returns masks without end": ("return itertools.repeat([(4, 0, 1)])", ("found over 1 masks",)),
    "returns a generator that exits": ("return (os._exit(0) for _ in range(1))", ("ended its process (exit code 0)",)),
    "changes the working folder": ("os.chdir('/'); return None", ("'NoneType' object is not iterable",)),
    "closes all files": ("os.closerange(0, 200); return None", ("'NoneType' object is not iterable",)),
    "ignores signals": (
        "[signal.signal(n, signal.SIG_IGN) for n in (2, 15)]; os._exit(0)",
        ("ended its process (exit code 0)",),
    ),
}
IMPORTED = {
    # name: (the module, what must be said)
    "the module ends the process": ("import os\nos._exit(0)", ("importing 'own_mask' ends the process",)),
    "the module kills itself": (
        "import os\nos.kill(os.getpid(), 9)",
        ("importing 'own_mask' ends the process, without an error. Mend the module",),
    ),
    "the module crashes in C": ("import ctypes\nctypes.string_at(0)", ("importing 'own_mask' ends the process",)),
    "the module exits": ("import sys\nsys.exit(0)", ("importing own_mask failed: it called sys.exit(0)",)),
    "the module raises": ("raise RuntimeError('import boom')", ("it raised RuntimeError: import boom",)),
    "the module has no syntax": ("def draw(", ("importing own_mask failed: it raised SyntaxError",)),
    "the module has a null byte": ("x = '\0'", ("importing own_mask failed: it raised SyntaxError",)),
    "the module is no text": (b"\xff\xfe\x00", ("importing own_mask failed: it raised SyntaxError",)),
    "it is no function": ("draw = 5", ("draw is a int; must be a function",)),
    "there is no such function": ("drawn = 5", ("has no attribute 'draw'",)),
    "it takes other arguments": ("def draw(text): return []", ("it takes (text); must be a function of",)),
    "it is async": ("async def draw(*given): return []", ("it is async",)),
}


def _module(content):
    def make(folder):
        content_bytes = content if isinstance(content, bytes) else content.encode()
        (folder / "own_mask.py").write_bytes(content_bytes)

    return make


def _function(body):
    return _module(f"import itertools, os, signal, sys\ndef draw(*given):\n    {body}\n")


def _no_examples(folder):
    run = folder / "runs" / "tiny"
    assert not (run / "report" / "report.html").exists()
    assert not list(run.glob("examples/**/*.examples"))
    assert not list(folder.glob("**/core*"))


def _case(name, words, make, command):
    return Case(
        name=name,
        kind="masks",
        make=make,
        command=(*command, "--set", "masking.function=own_mask:draw"),
        exit_code=2,
        words=("masking.function", *words),
        unprinted=("x" * 90,),
        check=_no_examples,
        in_ci=name in ("os._exit(0)", "the module ends the process"),
    )


CASES = (
    *(_case(name, words, _function(body), ("run", "--inline")) for name, (body, words) in CALLED.items()),
    *(_case(name, words, _module(text), ("check",)) for name, (text, words) in IMPORTED.items()),
    *(_case(f"{name}, run", words, _module(text), ("run", "--inline")) for name, (text, words) in IMPORTED.items()),
)
