"""Configs that are hostile, absurd or only mistaken: refused with their line or path, quickly, or done as they say."""

import sys

from tests.chaos.case import CONFIG, Case


def _write(text):
    def make(folder):
        data = text if isinstance(text, bytes) else text.encode("utf-8")
        (folder / "experiments.yaml").write_bytes(data)

    return make


def _with(line):
    """The profile with one more line."""
    return CONFIG + f"    {line}\n"


def _trial(text):
    """The profile with one more trial."""
    return CONFIG.replace("trials: {", f"trials: {{{text}, ")


LAUGHS = "".join(f"    y{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]\n" for n in range(1, 20))
TAGS = {
    "!!int foo": "must be a whole number",
    "!!float foo": "must be a number",
    "!!bool foo": "must be true or false",
    "!!null foo": "must be null or empty",
    "!!timestamp foo": "found the tag '!!timestamp'; remove it",
    "!!binary foo": "found the tag '!!binary'; remove it",
    "!!set {a}": "found the tag '!!set'; remove it",
    "!!omap [a: 1]": "found the tag '!!omap'; remove it",
    "!!pairs [a: 1]": "found the tag '!!pairs'; remove it",
    "!!python/object/apply:os.system [touch owned]": "found the tag '!!python/object/apply:os.system'; remove it",
    "!!python/tuple [1]": "found the tag '!!python/tuple'; remove it",
    "!own foo": "found the tag '!own'; remove it",
}
FILES = {
    "empty": ("", "found null; must be a mapping with 'default' and 'profiles'"),
    "a list": ("- a", "must be a mapping with 'default' and 'profiles'"),
    "a number": ("3", "found 3; must be a mapping"),
    "two documents": (CONFIG + "---\na: 1\n", "a second document ('---') begins here; must be one"),
    "UTF-16": (CONFIG.encode("utf-16"), "line 1: found the byte 0xFF; must be UTF-8"),
    "Latin-1": (CONFIG.replace("tiny", "t\xfcny").encode("latin-1"), "found the byte 0xFC; must be UTF-8"),
    "NUL": (CONFIG + "\0", "found the character U+0000, which YAML does not allow"),
    "5 MB": (CONFIG + "#" * 5_000_000, "must be at most 1,048,576"),
    "500 kB": (CONFIG + "#" * 500_000, "characters; must be at most 262,144"),
    "tab": (CONFIG.replace("    data", "\tdata"), "found a tab where the line begins; indent with spaces"),
    "list as key": ("default: a\nprofiles:\n  ? [a, b]\n  : c\n", "line 3, column 5: found a list as a key"),
    "mapping as key": ("default: a\nprofiles:\n  ? {a: b}\n  : c\n", "found a mapping as a key"),
    "recursive list": ("default: a\nprofiles: {a: {trials: &t [*t]}}", "the alias *t stands inside of what it repeats"),
    "recursive mapping": ("default: a\nprofiles: &p {a: *p}", "the alias *p stands inside of what it repeats"),
    "recursive merge": ("default: a\nprofiles: &p {a: {<<: *p}}", "the alias *p stands inside of what it repeats"),
    "merge of a number": (_with("<<: 5"), "expected a mapping or list of mappings for merging"),
    "unknown alias": (_with("seed: *nobody"), "found undefined alias 'nobody'"),
    "laughs": (_with("y0: &x0 [lol]") + LAUGHS, "found more than 50,000 values"),
    "laughs at top level": (
        "y0: &x0 [lol]\n" + LAUGHS.replace("    ", ""),
        "found more than 50,000 values",
    ),
    "deep list": (f"default: a\nprofiles: {{a: {'[' * 60_000}", "nested too deeply; at most 40 levels"),
    "deep mapping": (f"default: a\nprofiles: {{a: {'{a: ' * 20_000}", "nested too deeply; at most 40 levels"),
    "5,000 digits": (_with("seed: " + "9" * 5000), "must be a number of at most 19 digits"),
    "negative seed": (_with("seed: -1"), "seed: found -1; must be at least 0"),
    "hexadecimal": (_with("seed: 0x10"), "seed: found '0x10'; must be a whole number"),
    "octal": (_with("seed: 010"), "seed: found '010'; must be a whole number"),
    "sexagesimal": (_with("seed: 1:30"), "seed: found '1:30'; must be a whole number"),
    "infinity": (_with("training: {learning_rate: .inf}"), "learning_rate: found '.inf'; must be a number"),
    "huge float": (_with("training: {learning_rate: 1e999}"), "found Infinity; must be a finite number"),
    "not a number": (_with("training: {learning_rate: .nan}"), "learning_rate: found '.nan'; must be a number"),
    "same profile twice": (CONFIG + CONFIG[CONFIG.index("  tiny") :], "the key 'tiny' is given twice"),
    "same section twice": (_with("report: {}"), "the key 'report' is given twice"),
    "same setting twice": (_with("budget: {gpu_hours: 1, gpu_hours: 2}"), "the key 'gpu_hours' is given twice"),
    "same trial twice": (_trial("A1: {levels: [C1]}"), "the key 'A1' is given twice"),
    "ANSI key": (_with('"x\\e[31m": 1'), "found 'x\\x1b[31m'; must hold no control characters"),
    "bidi value": (_with('model: {start: "\\u202ex"}'), "found '\\u202ex'; must hold no control characters"),
    "surrogate": (_with('"\\ud800": 1'), "found '\\ud800'; must hold no control characters"),
    "NUL in a path": (_with('model: {start: "a\\0b"}'), "found 'a\\x00b'; must hold no control characters"),
    "seed's name": (_trial("x: {levels: [A1], seeds: [0, 1]}, x-seed1: {levels: [A1]}"), "gives the name 'x-seed1'"),
    "case alone": (_trial("a1: {levels: [A1]}"), "gives the name 'A1', and trials.a1 gives 'a1'"),
    "control's name": (_trial("control-size-A1: {levels: [A1]}"), "the name is raysweep's own; choose another"),
    "stage's name": (_trial("prepare: {levels: [A1]}"), "the name is raysweep's own; choose another"),
    "hidden name": (_trial(".x: {levels: [A1]}"), "found the name '.x'; must start with a letter or digit"),
    "path as name": (_trial("../../x: {levels: [A1]}"), "found the name '../../x'; must start with a letter"),
    "long name": (_trial(f"{'a' * 300}: {{levels: [A1]}}"), "must be a name of 1 to 80 characters"),
    "no such parent": (_trial("x: {levels: [A1], from: nobody}"), "trials.x.from: no trial 'nobody'"),
    "level as TeX": (CONFIG.replace("levels: [A1, C1]", "levels: ['A&1', C1]"), "data.levels: 'A&1' must start with"),
    "resamples": (CONFIG.replace("100}", "200000000}"), "report.resamples: found 200000000; must be at most 1,000,000"),
    "rows": (CONFIG.replace("rows: 40", "rows: 4000000000"), "must be at most 10,000,000 (documents to generate)"),
    "variable elsewhere": (_with("model: {start: '${HOME}/m'}"), "environment variables are looked up in notify"),
}
SETS = {
    "no value": ("training.steps", "must read path.to.key=value"),
    "no path": ("=3", "must read path.to.key=value"),
    "empty": ("", "must read path.to.key=value"),
    "empty part": ("training..steps=3", "must be names with a dot between them"),
    "deep": (".".join("a" * 3000) + "=1", "at most 40"),
    "dunder": ("__class__=1", "unknown field '__class__'"),
    "proto": ("training.__proto__.x=1", "unknown field '__proto__'"),
    "through a number": ("seed.x=1", 'seed: found {"x": 1}; must be a whole number'),
    "tag": ("seed=!!int foo", "found 'foo'; must be a whole number"),
    "digits": ("seed=" + "9" * 5000, "must be a number of at most 19 digits"),
    "ANSI": ("seed=\x1b[31m", "must hold no control characters"),
    "not UTF-8": ("seed=\udcff", "must hold no control characters"),
    "deep value": ("seed=" + "[" * 5000, "nested too deeply"),
}


def _case(name, words, *, make=lambda folder: None, command=("plan",), exit_code=2, **more):
    return Case(name=name, kind="config", make=make, command=command, exit_code=exit_code, words=words, **more)


def _nothing_ran(folder):
    assert not (folder / "owned").exists()


CASES = (
    *(_case(tag, (words,), make=_write(_with(f"seed: {tag}")), check=_nothing_ran) for tag, words in TAGS.items()),
    *(
        _case(name, (words,), make=_write(text), in_ci=name in {"laughs", "seed's name", "5,000 digits"}, within_s=20)
        for name, (text, words) in FILES.items()
    ),
    *(_case(f"--set {name}", (words,), command=("plan", f"--set={text}")) for name, (text, words) in SETS.items()),
    _case("--profile with ANSI", ("no profile 'x\\x1b[31m'",), command=("plan", "--profile=x\x1b[31m")),
    _case("--config is a folder", ("is a folder; must be a file",), command=("plan", "--config=.")),
    _case("--config is a device", ("is a pipe or a device",), command=("plan", "--config=/dev/zero")),
    _case("byte order mark", ("1 trials",), make=_write(CONFIG.encode("utf-8-sig")), exit_code=0),
    _case(
        "variable that is not set",
        ("notify.webhook: the environment variable RAYSWEEP_NO_SUCH is not set",),
        make=_write(_with("notify: {webhook: 'http://127.0.0.1:9/${RAYSWEEP_NO_SUCH}'}")),
        command=("run", "--inline"),
    ),
    _case(
        "password of a webhook",
        ("",),
        make=_write(_with("notify: {webhook: 'http://user:PASSWORD1@127.0.0.1:9/HOOKPATH2?token=TOKEN3'}")),
        command=("run", "--inline"),
        exit_code=0,
        unprinted=("PASSWORD1", "HOOKPATH2", "TOKEN3"),
        check=lambda folder: _holds_no(folder / "runs", "PASSWORD1", "HOOKPATH2", "TOKEN3"),
    ),
)


def _holds_no(folder, *secrets):
    # What is published, the report and its evidence, has tests of its own.
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name not in ("report", "tables")]
    assert any(path.name == "config.yaml" for path in files)
    for path in files:
        data = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in data], path


def _mask_function(text, module):
    def make(folder):
        sys.path.insert(0, str(folder))
        (folder / f"{module}.py").write_text(text)
        config = CONFIG.replace("masking: {", f"masking: {{function: '{module}:f', ")
        (folder / "experiments.yaml").write_text(config)

    return make


MASK_MODULES = {
    "raises on import": ("raise RuntimeError('boom')", "failed: it raised RuntimeError: boom"),
    "syntax error": ("def f(", "failed: it raised SyntaxError"),
    "ends on import": ("import sys; sys.exit(0)", "failed: it called sys.exit(0)"),
    "no function": ("f = 5", "f is a int; must be a function"),
    "other arguments": (
        "def f(text): return []",
        "it takes (text); must be a function of (text, hierarchy, generator)",
    ),
}


def _no_corpus(folder):
    sys.path.remove(str(folder))
    assert not (folder / "runs" / "tiny" / "corpus").exists()


CASES += tuple(
    _case(
        f"mask function: {name}, by {command[0]}",
        (f"masking.function: found 'chaos_masks_{number}:f'; ", words),
        # A module of its own for each case: a module that failed to import in one may be remembered in the next.
        make=_mask_function(text, f"chaos_masks_{number}"),
        command=command,
        check=_no_corpus,
    )
    for number, (name, (text, words)) in enumerate(MASK_MODULES.items())
    for command in (("check",), ("run", "--inline"))
)
